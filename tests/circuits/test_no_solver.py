"""The SPU relaxes, it does not know the answer: no linear solver in hybridsim.circuits."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from forbid import NoSolver, SolverUsed

import hybridsim.circuits
from hybridsim.circuits.dense import dense
from hybridsim.circuits.imperfect_low_rank import imperfect_lowrank
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.low_rank import lowrank

A = torch.eye(4, dtype=torch.float64) * 2 + 0.1
B = torch.ones(4, 2, dtype=torch.float64)

SOLVERS = {
    "solve": lambda: torch.linalg.solve(A, B),
    "solve_vector": lambda: torch.linalg.solve(A, B[:, 0]),
    "solve_ex": lambda: torch.linalg.solve_ex(A, B),
    "inv": lambda: torch.linalg.inv(A),
    "inv_ex": lambda: torch.linalg.inv_ex(A),
    "inverse": lambda: torch.inverse(A),
    "method": lambda: A.inverse(),
    "pinv": lambda: torch.linalg.pinv(A),
    "pinv_hermitian": lambda: torch.linalg.pinv(A, hermitian=True),
    "pinverse": lambda: torch.pinverse(A),
    "lstsq": lambda: torch.linalg.lstsq(A, B),
    "cholesky_solve": lambda: torch.cholesky_solve(B, torch.linalg.cholesky(A)),
    "cholesky_inverse": lambda: torch.cholesky_inverse(torch.linalg.cholesky(A)),
    "lu_solve": lambda: torch.linalg.lu_solve(*torch.linalg.lu_factor(A), B),
    "ldl_solve": lambda: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(A), B),
    "solve_triangular": lambda: torch.linalg.solve_triangular(A, B, upper=True),
    "triangular_solve": lambda: torch.triangular_solve(B, A),
    "tensorinv": lambda: torch.linalg.tensorinv(A, ind=1),
    "tensorsolve": lambda: torch.linalg.tensorsolve(A, B[:, 0]),
    "matrix_power": lambda: torch.linalg.matrix_power(A, -1),
}


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_is_caught(name: str) -> None:
    SOLVERS[name]()
    with pytest.raises(SolverUsed), NoSolver():
        SOLVERS[name]()


def test_the_path_of_tngd_solves_nothing(no_solver: None) -> None:
    jacobian = torch.randn(6, 20)
    system = lowrank(jacobian, torch.randn(2, 3, 3, dtype=torch.float64), 2**-0.5, 0.1)
    drive = system.vector(torch.randn(20), torch.randn(6))
    state = system.relax(drive, drive, tau=3.0, kappa0=0.1, noise_seeds=[1])
    assert system.full(state).isfinite().all()
    assert system.dissipation(state, drive, tau=1.0, kappa0=0.1).total > 0


def test_the_path_of_a_real_device_solves_nothing() -> None:
    """Once a system is programmed: its modes are a change of basis, which knows no drive."""
    jacobian = torch.randn(6, 20)
    device = Device(mismatch=0.01, thermal=1e-9, amplifier_tau=1e-4, offset=1e-4)
    hessian = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    system = imperfect_lowrank(jacobian, hessian, 2, 0.1, jacobian[0], device)
    drive = system.vector(torch.randn(20), torch.randn(6))
    with NoSolver():
        state, heat = system.settle(drive, drive, tau=3.0, kappa0=0.1, noise_seeds=[1])
    assert system.full(state).isfinite().all() and heat.total > 0


def test_the_path_of_kfac_solves_nothing(no_solver: None) -> None:
    system = dense(A, 0.1)
    state = system.relax(B, B, tau=1.0, kappa0=0.1, noise_seeds=[1, 2])
    assert (system.dissipation(state, B, tau=1.0, kappa0=0.1).total > 0).all()


def test_no_source_file_names_a_solver() -> None:
    words = {
        "solve",
        "inv",
        "pinv",
        "lstsq",
        "cholesky_solve",
        "cholesky_inverse",
        "inverse",
        "lu_solve",
    }
    for file in Path(hybridsim.circuits.__path__[0]).rglob("*.py"):
        tree = ast.parse(file.read_text())
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & words, (file.name, used & words)
