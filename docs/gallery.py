"""Write the gallery, and the pictures of the seed's story: trials are run, and drawn.

``python docs/gallery.py`` does all of it, ``python docs/gallery.py STALLED "LOCK LOST"`` these
words, ``python docs/gallery.py libvirt-0.9.10`` that picture, ``--text`` only what follows from the
sources. No two runs are the same to the millisecond, so that nothing here is part of
``generate.py --check``; that the pages are those of today's sources is tested.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # started as a script, Python knows the folder of the script only
    sys.path.insert(0, str(ROOT))

from docs import gallery_pages  # noqa: E402 - see above
from docs.exhibits import EXHIBITS, FOLDER, SCENES  # noqa: E402

TRIALS = Path(__file__).with_name("gallery_trials.py")
#: Nothing that disturbs a trial, or is not needed for one.
_PLAIN = ("no:randomly", "no:xdist", "no:xprocess", "no:labgrid", "no:cacheprovider")


def main() -> int:
    """Write what was asked for."""
    asked = sys.argv[1:]
    unknown = [name for name in asked if name not in {*EXHIBITS, *SCENES, "--text"}]
    if unknown:
        there = ", ".join([*EXHIBITS, *SCENES])
        sys.stderr.write(f"there is no {', '.join(unknown)} in the gallery: {there}\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    if "--text" not in asked:
        ids = [
            f"{TRIALS}::{'test_scene' if name in SCENES else 'test_exhibit'}[{name}]"
            for name in asked or [*EXHIBITS, *SCENES]
        ]
        off = [word for name in _PLAIN for word in ("-p", name)]
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", *off, *ids], check=False)
        if done.returncode:
            return done.returncode
    for word in EXHIBITS:
        page = gallery_pages.page_of(word)
        report = gallery_pages.report_in(page.read_text(encoding="utf-8"))
        page.write_text(gallery_pages.page(word, report), encoding="utf-8")
    (FOLDER / "index.md").write_text(gallery_pages.index(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
