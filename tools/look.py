"""Look at notebooks as a learner sees them: run each in a real JupyterLab and keep a picture of every screenful.

python tools/look.py notebooks/01_tokenizer.ipynb ...     pictures go to build/screenshots
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.lab import lab_page


def main() -> None:
    """Run every named notebook in the browser, print its tracebacks and the pictures taken."""
    for name in sys.argv[1:] or sys.exit(__doc__):
        with TemporaryDirectory() as folder, lab_page(Path(folder), Path(name).stem, height=1400) as lab:
            lab.open(name)
            lab.run_all()
            for error in lab.errors():
                print(f"{name}: {error}")
            for picture in lab.screenshot_every_part():
                print(picture)


if __name__ == "__main__":
    main()
