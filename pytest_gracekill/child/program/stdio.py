"""QEMU's options for its standard input and output, and where those go instead.

What QEMU's guest was acknowledged is told on standard output, which is ours to read, and a manager
may have a monitor there. So what is asked for at `stdio` is had at a pair of paths that lead to the
streams as they were handed over. Who reads them notices no difference.
"""

import os

LABEL = "gracekill-stdio"
_MODES = {"qmp": "control", "qmp-pretty": "control,pretty=on", "monitor": "readline"}


def moved(command: "list[str]", folder: str) -> "list[str]":
    """Return the command with its standard streams at paths in this folder, if it uses them.

    Call it while they are what they were handed over as.
    """
    stem = f"{folder}/stdio"
    path = stem.replace(",", ",,")
    words: list[str] = []
    for word in command:
        option = words[-1].lstrip("-") if words and words[-1].startswith("-") else ""
        if option in _MODES and word == "stdio":
            words[-1:] = ["-chardev", f"pipe,id={LABEL},path={path}", "-mon"]
            words.append(f"chardev={LABEL},mode={_MODES[option]}")
        elif option == "chardev" and word.partition(",")[0] == "stdio":
            label = [part for part in word.split(",") if part.startswith("id=")]
            words.append(",".join(["pipe", *label, f"path={path}"]))
        else:
            words.append(word)
    if words != command:
        for name, fd in ((f"{stem}.in", 0), (f"{stem}.out", 1)):
            kept = os.dup(fd)
            os.set_inheritable(kept, True)  # noqa: FBT003  # its signature
            os.symlink(f"/proc/self/fd/{kept}", name)  # noqa: PTH211  # pathlib is start-up time
    return words
