"""kill -9 while objects are added, refined, renamed, removed and saved."""

import random
from pathlib import Path

from benches.kill import Victim, lived

KILLS, KILLS_SHORT = 50, 3
ANSWER_S = 5.0  # from a loaded model to the first answer


def killed(folder: Path, short: bool) -> tuple[str, list[str]]:
    """Every acknowledged change is there again, and the one under way wholly or not at all."""
    chance, victim = random.Random(0), Victim(folder)
    lives = [lived(victim, chance) for _ in range(KILLS_SHORT if short else KILLS)]
    wrong, answered_s = sum(life.wrong for life in lives), max(life.answered_s for life in lives)
    loaded_s = max(life.loaded_s for life in lives)
    problems = [f"{wrong} lost or wrong"] if wrong else []
    problems += ["first answer"] if answered_s > ANSWER_S and not short else []
    times = f"loaded after at most {loaded_s:.1f} s, first answer {answered_s:.2f} s later"
    return f"{len(lives)} kills, {victim.acknowledged} acknowledged, {wrong} lost or wrong; {times}", problems


ROWS = {"killed": killed}
