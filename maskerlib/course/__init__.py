"""What only the notebooks need: their setting up, their figures, their explorers, and the checkers of their exercises.

    session              the profile, the device and the folders of one notebook
    grading              an answer goes in, a verdict and a hint come out
    exercises_00 ... 06  the checkers, one module a notebook, one function an exercise
    explorers            three widgets: of the mask, of the threshold, of the layers
"""

__all__: list[str] = []
