"""Beside the script, so that it needs the whole source directory."""


def total(lines: list[str]) -> int:
    return sum(int(word) for line in lines for word in line.split(","))
