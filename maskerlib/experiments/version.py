"""The version of the training's numbers: what a committed table and the address of a run say about the code behind them.

It is a number that a person raises, and not a hash of the code, so that a clearer sentence, another name or another place for a
function makes no finished run worthless. Whether it must be raised is not left to judgement: the golden runs
(`maskerlib.experiments.golden`) are trained by a test, and where one of them comes out otherwise, the version goes up by one.
"""

__all__ = ["VERSION"]

VERSION = 1
