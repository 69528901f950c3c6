"""What every training shares, and the training of a classifier. Imports `running`, `data` and `classifiers`.

    checkpoint   what a run leaves behind on its way, so that it survives a kill
    whole_batch  a step on the batch of all processes: batch norm, dropout, what is added up
    loop         steps, and a run that survives a kill
    finished     what a training leaves behind, so that it is loaded and not repeated
    run          a run whose result is the weights of one module: loaded, or trained and kept
    classifier   training a classifier, so that there is one to explain
    __main__     the command line of that
"""

__all__: list[str] = []
