"""What a map is worth: metrics, and `evaluate`, which computes them all. Imports the rooms before it.

    boxes        from a mask to a box
    per_image    OM, LE, F1, SM: one number an image
    evidence     what a metric may look at
    entry        what a metric says of itself to be a column
    truth        the ground truth as a map, the upper bound
    pointing     the pointing game
    removal      insertion, deletion, and the symmetric relevance gain
    registry     the columns of `evaluate`, always there or on request; a new metric is one function
    components   every component at every threshold, in one pass
    contours     the boxes of wsolevaluation
    curves       PxAP and MaxBoxAcc: one number a data set
    tally        what is kept of a method while images stream past
    evaluation   every metric, several methods, one table
    intervals    how far a mean may lie from the truth
"""

__all__: list[str] = []
