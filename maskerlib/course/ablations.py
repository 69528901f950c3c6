"""What the notebooks of the ablations share: their results, committed or made anew."""

from maskerlib.course.session import Session
from maskerlib.experiments.grid import load_table, tables_folder
from maskerlib.experiments.results import runs_folder
from maskerlib.experiments.tables import Results, read_results, rerun
from maskerlib.notebooks.parameters import read_as
from maskerlib.notebooks.runner import project_root

__all__ = ["open_results"]


def open_results(name: str, session: Session, *, again: bool = False) -> Results:
    """The results of a table, for the notebook of `session`: the committed ones, or, with `again`, those of its own runs.

    Own runs are those that `make experiments` makes, and shared with it. In the smoke profile two tiny runs are made to see
    that they can be, and the committed results are returned.
    """
    table = load_table(tables_folder() / f"{name}.yaml")
    if session.profile == "smoke":
        rerun(table.smoke(), session.results / "runs", session.results, device=str(session.device))
    elif read_as(bool, again, "rerun"):  # papermill passes "false" as a text
        return rerun(table, runs_folder(project_root()), session.results, device=str(session.device))
    return read_results(name)
