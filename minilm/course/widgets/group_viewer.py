"""Watch groups of answers while a policy learns: what was written, what it was paid, and how hard each answer is pushed up or down."""

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.figures import COLORS, in_notebook
from minilm.course.widgets.base import Sheet, Widget, drawable, shorten, visible

if TYPE_CHECKING:
    from minilm.grpo import GroupView, GRPOTrainer, StepRecord

NOTHING = "no steps yet"
MOST_ROWS = 16
UP, DOWN = COLORS["blue"], COLORS["vermillion"]


@dataclass(frozen=True)
class Row:
    """One of the different answers of a group."""

    text: str
    count: int
    reward: float
    advantage: float

    @property
    def push(self) -> str:
        """In words."""
        return "up" if self.advantage > 1e-9 else "down" if self.advantage < -1e-9 else "not at all"


def rows_of(group: "GroupView[Any]") -> list[Row]:
    """The different answers of a group, the best first; of equals the most frequent."""
    counts = Counter(zip(group.texts, group.rewards, group.advantages, strict=True))
    rows = [Row(text, count, reward, advantage) for (text, reward, advantage), count in counts.items()]
    return sorted(rows, key=lambda row: (-row.reward, -row.count, row.text))


class GroupViewer(Widget):
    """The groups of some steps of a run, to leaf through. `steps` maps a step to its groups (`GRPOTrainer.last_groups`).

    It lives while a run goes on: `for record in viewer.watch(trainer): ...` trains, and shows every fifth step as it comes.

    >>> GroupViewer()
    GroupViewer: no steps yet.
    """

    def __init__(self, steps: "Mapping[int, Sequence[GroupView[Any]]] | None" = None) -> None:
        self.steps: dict[int, list[GroupView[Any]]] = {}
        wide = ipywidgets.Layout(width="99%", max_width="620px")
        self.step = ipywidgets.SelectionSlider(
            options=[NOTHING], value=NOTHING, description="Step", layout=wide, disabled=True
        )
        self.group = ipywidgets.IntSlider(value=1, min=1, max=1, description="Problem", layout=wide)
        super().__init__([self.step, self.group])
        self.step.observe(self._step_chosen, names="value")
        self.group.observe(self.refresh, names="value")
        for step in sorted(steps or {}):
            self.add(step, (steps or {})[step])
        if self.steps:
            self.step.value = min(self.steps)
            telling = [i for i, group in enumerate(self.groups, 1) if min(group.rewards) != max(group.rewards)]
            self.group.value = telling[0] if telling else 1

    def add(self, step: int, groups: "Sequence[GroupView[Any]]") -> None:
        """One more step; the view moves on to it, unless the reader has gone back to look at another one."""
        if not groups:
            raise ValueError(f"step {step} has no groups: pass trainer.last_groups after a step")
        newest = not self.steps or self.step.value == max(self.steps)
        self.steps[step] = list(groups)
        now = step if newest else self.step.value
        self.step.options, self.step.disabled = sorted(self.steps), False
        self.step.value = now
        self._step_chosen()

    def watch(self, trainer: "GRPOTrainer[Any]", every: int = 5) -> "Iterator[StepRecord]":
        """The steps of a run, of which the first, each so many and the last are taken; appears at the first.

        When the run ends, the still picture of the whole way takes its place on pages without a kernel.
        """
        if every < 1:
            raise ValueError(f"every = {every}: at least 1")
        shown: Any = None
        for record in trainer.steps():
            if record.step == 1 or record.step % every == 0 or record.step == trainer.config.steps:
                self.add(record.step, trainer.last_groups)
            if shown is None and in_notebook():
                from IPython.display import display

                shown = display(self, display_id=True)  # type: ignore[no-untyped-call]
            yield record
        if self.steps:
            self.group.value = self.most_telling()
        if shown is not None:
            shown.update(self)

    def most_telling(self) -> int:
        """The problem number, counted from 1, that has a signal at the most steps; of equals the first."""
        most = min(map(len, self.steps.values()))

        def telling(number: int) -> int:
            groups = [groups[number - 1] for groups in self.steps.values()]
            return sum(min(group.rewards) != max(group.rewards) for group in groups)

        return max(range(1, most + 1), key=telling)

    def _step_chosen(self, _: object = None) -> None:
        self.group.max = len(self.groups)
        self.refresh()

    @property
    def groups(self) -> "list[GroupView[Any]]":
        """Of the chosen step."""
        return self.steps.get(self.step.value, []) if self.steps else []

    @property
    def chosen(self) -> "GroupView[Any] | None":
        """The group that is shown."""
        return self.groups[min(self.group.value, len(self.groups)) - 1] if self.groups else None

    def headline(self) -> str:
        """What was asked, and how many answers were as good as any."""
        if self.chosen is None:
            return "No steps yet."
        best = max(self.chosen.rewards)
        good = sum(reward == best for reward in self.chosen.rewards)
        asked = visible(self.chosen.problem.prompt, spaces=False)
        mean = sum(self.chosen.rewards) / len(self.chosen.rewards)
        if min(self.chosen.rewards) == best:
            return f"Step {self.step.value}, {asked} All {good} answers are paid {best:.2f}: no signal."
        return f"Step {self.step.value}, {asked} {good} of {len(self.chosen.rewards)} answers are paid {best:.2f}, the mean is {mean:.2f}."

    def facts(self) -> str:
        """The whole step."""
        if not self.groups:
            return ""
        silent = sum(min(group.rewards) == max(group.rewards) for group in self.groups)
        paid = [reward for group in self.groups for reward in group.rewards]
        return f"All {len(self.groups)} problems of this step: mean pay {sum(paid) / len(paid):.2f}, {silent} without signal."

    def to_html(self) -> str:
        """The group as a table, one line for each different answer."""
        head = f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.facts())}</p>'
        if self.chosen is None:
            return head
        rows = rows_of(self.chosen)
        most = max(abs(row.advantage) for row in rows) or 1.0
        lines = "".join(
            f'<tr><td><span class="text">{html.escape(visible(shorten(row.text, 200), spaces=False)) or "(nothing)"}</span></td>'
            f"<td>{row.count} ×</td><td>{row.reward:.2f}</td><td>{row.advantage:+.2f}, {row.push}</td>"
            f'<td style="width:30%"><span class="bar" style="width:{100 * abs(row.advantage) / most:.1f}%;background:{UP if row.advantage > 0 else DOWN}"></span></td></tr>'
            for row in rows[:MOST_ROWS]
        )
        more = f'<p class="facts">… and {len(rows) - MOST_ROWS} more</p>' if len(rows) > MOST_ROWS else ""
        heads = "".join(f'<th scope="col">{name}</th>' for name in ("answer", "how often", "paid", "pushed"))
        return f'{head}<section class="panel" aria-label="answers"><table><thead><tr>{heads}<td></td></tr></thead><tbody>{lines}</tbody></table>{more}</section>'

    def picture(self) -> Figure:
        """The same problem number at every step that there is (four at most): answers, pay, push."""
        sheet = Sheet()
        if not self.steps:
            sheet.text("No steps yet.")
            return sheet.figure()
        steps = sorted(self.steps)
        if len(steps) > 4:
            steps = [steps[round(i * (len(steps) - 1) / 3)] for i in range(4)]
        for step in steps:
            groups = self.steps[step]
            group = groups[min(self.group.value, len(groups)) - 1]
            mean = sum(group.rewards) / len(group.rewards)
            sheet.text(
                f"Step {step}: {drawable(visible(group.problem.prompt, spaces=False))}  mean pay {mean:.2f}", bold=True
            )
            rows = rows_of(group)
            for row in rows[:6]:
                said = drawable(shorten(visible(row.text, spaces=False), 50)) or "(nothing)"
                sheet.text(
                    f"{said:<52}{row.count:>3} x   paid {row.reward:5.2f}   pushed {row.advantage:+.2f}", indent=2
                )
            if len(rows) > 6:
                sheet.text(f"… and {len(rows) - 6} more", indent=2)
            sheet.space()
        return sheet.figure()

    def summary(self) -> str:
        """The chosen group in words."""
        if self.chosen is None:
            return "GroupViewer: no steps yet."
        some = "; ".join(
            f"'{shorten(visible(row.text, spaces=False), 30)}' {row.count} times, pushed {row.push}"
            for row in rows_of(self.chosen)[:5]
        )
        return f"GroupViewer of {len(self.steps)} steps. {self.headline()} {self.facts()} Answers: {some}."
