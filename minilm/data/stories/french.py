"""Les histoires en français : huit intrigues, où l'accord, l'élision et les pronoms sont toujours justes.

The narrative is in the passé simple and the imparfait, as in a book, and the dialogue in the passé composé, so that
adjectives, participles and possessives agree with who speaks and with what was lost. Quotation marks are French, with
ordinary spaces inside them and before ? and !, so that a learner can type any beginning.
"""

from minilm.data.stories.engine import Grammar
from minilm.data.stories.template import compile_grammar, one_of
from minilm.data.stories.words import Word, adjectifs, noms, numbers, personnages, plain, split

NUMBERS = numbers(
    "zéro, un, deux, trois, quatre, cinq, six, sept, huit, neuf, dix, onze, douze, treize, quatorze, quinze, seize, "
    "dix-sept, dix-huit, dix-neuf, vingt"
)


def lieux(text: str) -> list[Word]:
    """Places written as "le parc > au parc": the name with its article, and as the form `a` how one goes there."""
    words = []
    for entry in split(text):
        name, _, where = entry.partition(" > ")
        contracted = name.removeprefix("le ")
        words.append(Word(name, {"a": where, "de": f"du {contracted}" if name.startswith("le ") else f"de {name}"}))
    return words


LISTS = {
    "FILLE": personnages(
        "f",
        "Léa, Emma, Zoé, Nina, Lucie, Rose, Anna, Jade, Camille, Inès, Chloé, Manon, Sarah, Julie, Alice, Louise, "
        "Margot, Élise, Fatou, Clara, Agathe, Juliette, Océane, Yasmine",
    ),
    "GARCON": personnages(
        "m",
        "Tom, Léo, Paul, Hugo, Max, Louis, Théo, Noé, Jules, Lucas, Adam, Gabriel, Arthur, Nathan, Malik, Simon, "
        "Antoine, Émile, Victor, Bruno, Henri, Oscar, Rémi, Karim",
    ),
    "PARENT": noms(
        "f mère, m père, f grand-mère, m grand-père, f tante, m oncle, f sœur, m frère, f cousine, m cousin"
    ),
    "OBJET": noms(
        "m ballon, f poupée, m bateau, f voiture, m livre, f lampe, m tambour, f écharpe, m chapeau, f boîte, "
        "m panier, f clé, m cerf-volant, f flûte, m robot, f toupie, m avion, f épée, m parapluie, f couverture, "
        "m cahier, f montre, m éventail, f lanterne, m train, f ardoise, m miroir, f trousse"
    ),
    "COULEUR": adjectifs(
        "rouge, bleu/bleue, vert/verte, jaune, blanc/blanche, noir/noire, rose, violet/violette, gris/grise, "
        "doré/dorée, brun/brune, argenté/argentée"
    ),
    "ANIMAL": noms(
        "m chat, m chien, f souris, m lapin, m renard, f grenouille, m canard, m hibou/hiboux, f tortue, f poule, "
        "f chèvre, m écureuil, m ours, f oie, m âne, m hérisson, f chouette, m castor, f abeille, "
        "m cheval/chevaux, f marmotte, m escargot, m oiseau, f hirondelle"
    ),
    "PETIT": noms(
        "m chaton, m chiot, m oisillon, f souris, m caneton, m écureuil, f tortue, m hérisson, f grenouille, m agneau, "
        "f hirondelle, m lapereau, m ourson, m poussin, m renardeau, f mésange"
    ),
    "LIEU": lieux(
        "le parc > au parc, le jardin > au jardin, la plage > à la plage, la ferme > à la ferme, "
        "le marché > au marché, l'école > à l'école, la forêt > dans la forêt, la rivière > au bord de la rivière, "
        "le village > au village, le lac > au bord du lac, la bibliothèque > à la bibliothèque, le château > au château, "
        "le moulin > au moulin, la gare > à la gare, le port > au port, l'étang > au bord de l'étang, "
        "la colline > sur la colline, l'île > sur l'île, le pont > sur le pont, la place > sur la place"
    ),
    "ENDROIT": plain(
        "sous un banc, derrière un arbre, dans l'herbe, près de la fontaine, sur un mur, sous un buisson, "
        "sur un rocher, entre deux pierres, au pied d'un chêne, sous les feuilles, dans un tonneau, "
        "au bord du chemin, derrière la haie, sur une marche, parmi les fleurs, sous une charrette"
    ),
    "FRUIT": noms(
        "f pomme, f poire, f cerise, m biscuit, f fraise, f prune, m bonbon, f noix, m abricot, f pêche, f orange, "
        "f galette, m gâteau, f figue, f crêpe, f noisette"
    ),
    "FLEUR": noms("f rose, f tulipe, m tournesol, f marguerite, f violette, m coquelicot, f citrouille, f fève"),
    "TRAIT": adjectifs(
        "curieux/curieuse, timide, courageux/courageuse, rêveur/rêveuse, bavard/bavarde, sage, poli/polie, "
        "joyeux/joyeuse, têtu/têtue, patient/patiente, distrait/distraite, généreux/généreuse, malin/maligne, "
        "calme, vif/vive, espiègle"
    ),
    "TRISTE": adjectifs(
        "triste, inquiet/inquiète, malheureux/malheureuse, déçu/déçue, désolé/désolée, abattu/abattue, "
        "découragé/découragée, soucieux/soucieuse"
    ),
    "CONTENT": adjectifs(
        "content/contente, heureux/heureuse, fier/fière, soulagé/soulagée, joyeux/joyeuse, rassuré/rassurée, "
        "reconnaissant/reconnaissante, ému/émue"
    ),
    "PEUR": plain("le noir, l'orage, les araignées, les fantômes, le vide, les serpents, les gros chiens, les guêpes"),
    "JOUR": [
        Word(jour, {"s": jour + "s"}) for jour in split("lundi, mardi, mercredi, jeudi, vendredi, samedi, dimanche")
    ],
    "MOIS": plain("mai, juin, juillet, septembre, mars, décembre, janvier, février, novembre"),
}

RULES = {
    "DEBUT": """
        [Il était une fois:5|Il y a bien longtemps vivait:2|Dans un petit village vivait:2|Non loin d'ici vivait:2|Au bord de la mer vivait]
        [une [petite :3|jeune |]fille [qui s'appelait:3|nommée:2] [heros=FILLE]|un [petit :3|jeune |]garçon [qui s'appelait:3|nommé:2] [heros=GARCON]].
        {heros.il^} était [très :3|plutôt |assez |:2][:heros=TRAIT] et [aimait [les [.s=FRUIT]:3|les histoires [.ds=ANIMAL]:3|chanter|dessiner|courir|la pluie|la neige|les mois d'été]:3
        |vivait avec [.son=PARENT] [dans une petite maison:2|dans un moulin|au bout de la rue:2|près [.de=LIEU]]:2|rêvait de voir [la mer|la montagne|un éléphant|le désert|les étoiles de près|la tour Eiffel|un volcan|une baleine]:2].""",
    "AMI": "[ami=FILLE]|[ami=GARCON]",
    "QUAND": "Un [matin:2|soir|jour:3|après-midi] de [MOIS]:3|Un beau [matin:2|jour:2|soir]:2|Un [JOUR]:3|Un [JOUR] [matin|soir]:2|Par un [matin|soir] de [grand vent|brouillard|pluie|neige]:2",
    "TRES": "très :3|si |vraiment :2|bien |:2",
    # Incises : elles suivent toujours une virgule, un point d'interrogation ou d'exclamation.
    "DIT": "dit:6|s'écria:2|lança:2|murmura:2|souffla|déclara|chuchota|fit",
    "REPOND": "dit:3|répondit:5|assura|murmura|expliqua|déclara|fit",
    "DEMANDE": "demanda:6|dit:2|voulut savoir",
    "GEMIT": "dit:4|soupira:3|sanglota:2|gémit|murmura:2|répondit:3",
    "MERCI": "Merci:4|Merci beaucoup:3|Mille mercis|Merci de tout cœur|C'est très gentil:2|Je ne l'oublierai jamais|Tu me sauves la vie",
    "NOMBRE": "deux:2|trois:3|quatre:2|cinq:2|six|sept|dix",
    "FIN": "[Depuis ce jour:3|Depuis:2|Dès lors:2|À partir de ce jour]",
    "GAGNE": """
        Mais {_1} [trébucha [sur une pierre|sur une racine]:3|perdit une chaussure:3|se trompa de chemin:2|s'arrêta pour regarder [.un=ANIMAL]:3|glissa dans la boue:2], et <gagnant=_2>c'est {_2} qui arriva en premier. {_2.il^} reçut {prix.le} {couleur:prix}. {_1} était [TRES][:_1=TRISTE].
        « [Tu gagneras la prochaine fois:3|Tu as bien couru:3|Ne pleure pas:2|Ce n'est que de la malchance:2], {_1}. [Jouons ensemble avec {prix.le}:3|Je te prête {prix.le} jusqu'à [JOUR]:3|{prix.le^} est pour nous deux:3|Viens manger des [.s=FRUIT] avec moi:3] », [DIT] {_2}. « [MERCI] », [REPOND] {_1}. Les enfants [rentrèrent [ensemble|gaiement|lentement|main dans la main] à la maison:3|se reposèrent [ENDROIT]:4|burent un grand verre d'eau:2|se serrèrent la main:2|jouèrent jusqu'au soir:2].""",
    "TROUVE": """
        {_1} [toussa:3|éternua:3|rit trop fort:2|ne tenait pas en place:2|bougea un pied:2]. « [Je t'ai trouvé{_1.e}:3|Je te vois:2|Te voilà:3], {_1} ! » [dit:3|cria:2|s'écria:2] {heros} en regardant {_2}. <premier_trouve=_1>« [Où est {_3}:3|Et où est {_3}:2|Sais-tu où est {_3}:2|As-tu vu {_3}:3] ? »
        {_1} [sourit:3|ne dit rien:3|haussa les épaules:2|montra le mauvais chemin:2], mais [bientôt:2|après [NOMBRE] minutes:3|un peu plus tard:2|enfin], {heros} trouva {_3} {_4}. Ensuite, c'était à {_1} de compter, car {_1.il} avait été trouvé{_1.e} en premier. Les enfants jouèrent [jusqu'au soir:3|jusqu'à la nuit:2|longtemps encore:2|jusqu'à l'heure du goûter:2] et [mangèrent des [.s=FRUIT]:4|rentrèrent [ensemble|gaiement|en chantant]:3|n'oublièrent jamais ce jour:2|se promirent de recommencer [JOUR]:3].""",
    # _1 casse son jouet (_2, de couleur _3), _4 prête le sien (_5, de couleur _6).
    "CASSE": """
        {_1} [trébucha [sur une pierre|sur une racine]:2|ne fit pas attention:2|glissa dans la boue:2|courut trop vite:2|regarda [.un=ANIMAL]:3], et {_2.le} fut abîmé{_2.e}[ pour de bon| en un instant| d'un seul coup|].
        <malchance=_1>« [Oh non:3|Quel malheur:2|Regarde:2|Ce n'est pas possible] ! {_2.mon^} {_3:_2} est [abîmé{_2.e}:3|fichu{_2.e}|perdu{_2.e}:2] », [GEMIT] {_1}. {_1.il^} était [TRES][:_1=TRISTE].
        « [Prends:3|Je te prête:3|Jouons avec:3|Nous avons encore:2] {_5.mon} {_6:_5} », [REPOND] {_4}. « [Vraiment:3|C'est vrai:2|Tu es sûr{_4.e}:3|Je peux:2] ? » « [Bien sûr:3|Évidemment:2|Oui:2|Entre amis, on partage:2] ! »
        [Alors:2|Ainsi], les deux enfants partagèrent {_5.le} [jusqu'au soir:3|tout l'après-midi:2|jusqu'à la nuit:2|sans se disputer:2]. [Le lendemain:2|Plus tard:2|Le [JOUR] suivant:3], [parent.son=PARENT] répara {_2.le} {_3:_2}, et {_1} fut de nouveau [:_1=CONTENT].""",
}

PLOTS = {
    "perdu": """
        {heros} avait [objet.un=OBJET] [couleur:objet=COULEUR] et [{objet.pronom} montrait à tout le monde:2|ne {objet.pronom} quittait jamais:3|{objet.pronom} gardait près du lit:2|l'aimait plus que tout:3]. [QUAND], {heros.il} alla [lieu.a=LIEU] et perdit {objet.le}.
        {heros.il^} chercha [endroit=ENDROIT] et [endroit2=ENDROIT], mais [en vain:2|sans succès:2|ne trouva rien:3|ne vit qu'[.un=ANIMAL]:3]. {heros} était [TRES][:heros=TRISTE].
        [animal.un^=ANIMAL] [passa par là:2|s'arrêta:2|leva la tête:2|s'approcha:2|entendit ses pleurs:2]. « [Pourquoi pleures-tu:3|Qu'as-tu perdu:3|Que cherches-tu:3|Qu'est-ce qui ne va pas:2|Je peux t'aider:2] ? » [DEMANDE] {animal.le}. « J'ai perdu {objet.mon} {couleur:objet} », [GEMIT] {heros}.
        {animal.le^} [réfléchit [longuement:2|un instant:2|un moment|calmement]:4|hocha la tête:2|sourit:2|partit aussitôt:2] et retourna avec {heros.lui} {lieu.a}. {objet.le^} était là, [endroit3=ENDROIT] ! « [MERCI] ! » [DIT] {heros}, [tout heureu{heros.x}:2|le cœur léger:2|les larmes aux yeux].
        [FIN], {heros} et {animal.le} [sont amis:3|jouent ensemble chaque [JOUR]:3|ne se quittent plus:3|sont inséparables:2].""",
    "partage": """
        {heros} avait [avait=6..14] [fruit.s=FRUIT] [dans un panier:2|dans un sac:2|dans ses poches:2|dans une boîte:2]. [QUAND], [une fille nommée [ami=FILLE]|un garçon nommé [ami=GARCON]] s'assit [ENDROIT]. {ami.il^} [avait faim:3|n'avait rien à manger:3|avait oublié son goûter:2|était [TRES][:ami=TRISTE]:3].
        « [Tu as faim:3|Tu veux goûter:2|Aimes-tu les {fruit.s}:3|Veux-tu partager avec moi:2] ? » [DEMANDE] {heros}. « [Oh oui:3|Avec plaisir:3|Oui, s'il te plaît:3|Volontiers:2|Je meurs de faim:2] », [REPOND] {ami}. {heros} lui donna [aussitôt:2|gentiment:2|sans hésiter:3|volontiers:2|en souriant:3|alors:2] [donne=2..avait-2] {fruit.s}. « [MERCI], {heros} ! »
        Il en restait {avait-donne} à {heros}, et {ami} en avait {donne}. Les deux enfants mangèrent [ENDROIT] [en riant:2|en parlant [.de=LIEU]:3|en regardant les nuages:2|en chantant:2|avec [.un=ANIMAL]:3]. {heros} était [TRES][:heros=CONTENT] : [partager rend heureux:2|à deux, tout est meilleur:2|{heros.il} avait trouvé un{ami.e} ami{ami.e}:3|le goûter n'avait jamais été aussi bon:2].""",
    "peur": """
        {heros} craignait [peur=PEUR], mais [personne ne le savait:3|{heros.il} n'en parlait jamais:2|seule sa mère le savait:2|{heros.il} ne voulait pas l'avouer:2]. [QUAND], {heros.il} [entendit:2|trouva:2|aperçut:3|vit:3] [animal.un=PETIT] [blessé{animal.e}:2|perdu{animal.e}:2|tremblant de froid:2|en danger:2|qui pleurait:3] [ENDROIT], près [lieu.de=LIEU].
        {heros} [hésita:3|voulut s'enfuir:2|ferma les yeux:2|respira profondément:2|compta jusqu'à [NOMBRE]:3|trembla:2], puis {heros.il} [s'approcha:3|avança:2|prit son courage à deux mains:2|oublia sa peur:2]. « [N'aie pas peur:3|Je suis là:3|Ne bouge pas:2|Reste calme:2|Tout ira bien:2] », [DIT] {heros}.
        {heros.il^} prit [doucement:3|prudemment:2|délicatement:2|tendrement|aussitôt|sans hésiter] {animal.le} dans ses bras et {animal.pronom} [porta:2|ramena:2|conduisit] [chez {heros.lui}:2|en lieu sûr:2|à la maison:3]. [parent.son^=PARENT] était [TRES][:parent=CONTENT]. « [Tu es très courageu{heros.x}:3|Quel courage:2|Je suis fi{parent.er} de toi:3|Bravo:2|Tu n'as peur de rien:2] ! » [FIN], {heros} ne craignait plus {peur}.""",
    "cadeau": """
        {heros} voulait fabriquer [objet.un=OBJET] [couleur:objet=COULEUR] pour [parent.son=PARENT], qui [fêtait son anniversaire:3|était malade:2|revenait de voyage:2|aimait les surprises:3|en rêvait depuis longtemps:2].
        {heros.il^} [trouva:3|acheta:2|ramassa] [du bois|du carton|du papier|du tissu|de la laine|de la ficelle|de l'argile|des rubans] et se mit au travail. Mais {objet.le} [ne ressemblait à rien:3|tomba par terre:3|n'était pas très solide:2|ne tenait pas debout:2|était trop petit{objet.e}:3|ressemblait à [.un=OBJET]:3]. {heros} était [TRES][:heros=TRISTE], mais {heros.il} [recommença:3|ne se découragea pas:3|demanda de l'aide à [AMI]:3|eut une autre idée:2|continua [patiemment|courageusement|malgré tout]:3].
        [Enfin:2|Après [NOMBRE] jours:3|Un [JOUR]:3|Le soir venu:2], {objet.le} {couleur:objet} fut [prêt{objet.e}:3|fini{objet.e}:2|terminé{objet.e}:2]. « [Que caches-tu derrière ton dos:3|Tu as fait cela tout{heros.e} seul{heros.e}:3|Qu'est-ce que c'est:3|Que me caches-tu:2|Tu m'as apporté quelque chose:2] ? » demanda {parent.son}. « [Regarde:3|Surprise:2|Ouvre vite:2|Devine:2|C'est pour toi:3] ! » [DIT] {heros}. « [Quel beau cadeau:3|C'est {objet.le} de mes rêves:3|Je {objet.pronom} garderai toujours:3|Merci mille fois:2|{objet.il^} est magnifique:3] ! » {heros} fut [TRES][:heros=CONTENT].""",
    "deux": """
        {heros} avait [objet.un=OBJET] [couleur:objet=COULEUR], et [son amie [ami=FILLE]|son ami [ami=GARCON]] avait [objet2.un=OBJET] [couleur2:objet2=COULEUR]. [QUAND], les deux enfants jouaient [lieu.a=LIEU]. [[CASSE(heros,objet,couleur,ami,objet2,couleur2)]|[CASSE(ami,objet2,couleur2,heros,objet,couleur)]]""",
    "jardin": """
        Au printemps, {heros} planta [premier=4..9] [fleur.s=FLEUR] et [second=3..9] [fleur2.s=FLEUR] [derrière la maison:2|près [.de=LIEU]:3|dans un vieux tonneau|au fond du jardin:2]. « Cela fait {premier+second} plantes », [pensa:2|compta:2|nota|dit] {heros}. [Chaque matin:2|Chaque soir:2|Tous les [.s=JOUR]:3], {heros.il} les arrosait [avec soin:3|longuement:2|doucement:2|patiemment:2|en chantant:2].
        Mais [une nuit:3|un [JOUR]:3|en [mai|juin|juillet]:3], [animal.un=ANIMAL] [entra dans le jardin:3|sauta par-dessus la clôture:2|passa sous la haie:3|arriva sans bruit:2|sentit la bonne odeur:2] et mangea [mange=2..premier-2] {fleur.s}. Il n'en restait que {premier-mange}, mais pas un{fleur2.e} seul{fleur2.e} des {fleur2.s} ne manquait.
        « [Pourquoi as-tu fait cela:3|Qui es-tu:2|As-tu encore faim:2|Qu'as-tu fait:3|Tu n'as pas honte:2] ? » [DEMANDE] {heros}. « [Pardon:3|Je suis désolé{animal.e}:3|J'avais si faim:3|C'était trop bon:2|Je ne le ferai plus:2] », [GEMIT] {animal.le}. {heros} [rit:2|réfléchit:2|haussa les épaules:2|lui pardonna:3] et lui [donna:3|offrit:3|prépara:2] des [.s=FRUIT]. [FIN], {animal.le} [garde le jardin:3|arrose les {fleur2.s}:3|chasse les escargots:2|travaille avec {heros.lui}:2].""",
    "course": """
        {heros} et [son amie [ami=FILLE]|son ami [ami=GARCON]] [voulaient savoir qui courait le plus vite:2|aimaient beaucoup courir:3|rêvaient de gagner une course:2|se croyaient très rapides:2]. [QUAND], les deux enfants partirent en courant vers [arrivee=LIEU]. Le prix était [prix.un=OBJET] [couleur:prix=COULEUR].
        « [Je serai premi{ami.er}:3|Tu ne m'attraperas jamais:3|Que le meilleur gagne:2|Je cours comme [.un=ANIMAL]:3] ! » [DIT] {ami}. « [Nous verrons bien:3|Pas si vite:2|Attends un peu:2|Rendez-vous près {arrivee.de}:3] ! » [REPOND] {heros}. [[GAGNE(heros,ami)]|[GAGNE(ami,heros)]]""",
    "cache": """
        {heros} adorait jouer à cache-cache. [QUAND], [AMI] et [[autre=FILLE]|[autre=GARCON]] vinrent jouer [lieu.a=LIEU]. {heros} [ferma les yeux:3|se mit face à un arbre:2|mit les mains sur ses yeux:2|s'appuya contre un mur:2] et compta jusqu'à [compte=8..20]. {ami} se cacha [vite:2|aussitôt:2|sans bruit:3|en riant:2|prudemment|habilement] [endroit=ENDROIT], et {autre} se cacha [endroit2=ENDROIT].
        « {compte^} ! [J'arrive:3|Je viens:2|C'est parti:2|Attention:2|Me voilà:2] ! » [cria:3|dit:2|lança:2|s'écria:2] {heros}. {heros.il^} regarda d'abord [endroit3=ENDROIT], mais n'y trouva [rien:2|personne:2|qu'[.un=ANIMAL]:4]. [[TROUVE(ami,endroit,autre,endroit2)]|[TROUVE(autre,endroit2,ami,endroit)]]""",
}


def build() -> Grammar:
    """The grammar of the French stories."""
    return compile_grammar("french", "[DEBUT] [HISTOIRE]", RULES | {"HISTOIRE": one_of(PLOTS)}, LISTS, NUMBERS)
