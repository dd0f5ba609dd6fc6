# SPDX-License-Identifier: GPL-2.0-only
"""From what was chosen to a guest that is up and has our programs and modules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness import ui
from harness.build import pipeline
from harness.build.pipeline import Prepared
from harness.case.guest import COMMAND_TIMEOUT_S, GUEST_DIR, POLICY_FILE
from harness.command.selection import Selection
from harness.device.accel import PROOF_SECONDS, Accel, choose
from harness.device.device import Device
from harness.device.emulated import EmulatedDevice
from harness.device.start import Emulator, start
from harness.errors import HarnessError
from harness.kernels import load_kernels
from harness.layout import Layout
from harness.policies import Policy, load_policies
from harness.ui import Stage


def prepare_all(
    selection: Selection, built_with: Iterable[str], *, layout: Layout
) -> dict[str, Prepared]:
    """Everything to boot, by the policy that the kernel is built with.

    Wrong names are found before anything is built.
    """
    kernels = load_kernels(layout)
    requests = {name: selection.prepare_request(kernels, name) for name in built_with}
    return {name: pipeline.prepare(request, layout=layout) for name, request in requests.items()}


def policy_modules(
    policies: Iterable[Policy], prepared: Prepared, *, layout: Layout
) -> dict[str, Path]:
    """The modules of those policies that are files, by name, for a kernel."""
    return {
        policy.name: pipeline.build_policy(prepared.kernel, policy, layout=layout)
        for policy in policies
        if policy.source is not None
    }


def prepare_one(
    selection: Selection, policy: str | None, *, layout: Layout
) -> tuple[Prepared, Path | None]:
    """Everything to boot with one policy, and that one's module if it is a file."""
    default = load_kernels(layout).default_policy
    chosen = load_policies(layout).named(policy or default)
    # A policy that is a module comes on the kernel of the default policy.
    name = default if chosen.source is not None else chosen.name
    prepared = prepare_all(selection, [name], layout=layout)[name]
    return prepared, policy_modules([chosen], prepared, layout=layout).get(chosen.name)


def accelerate(selection: Selection, prepared: Prepared, *, layout: Layout) -> Accel:
    """KVM or TCG for this kernel, shown with the reason."""

    def prove() -> None:
        stage.update("a boot under KVM")
        kvm = Accel("kvm", "to be proven")
        start_guest(prepared, kvm, None, patience=PROOF_SECONDS, layout=layout).close()

    with ui.stage("accel") as stage:
        accel = choose(selection.accel, prepared.kernel.target.board, prove=prove)
        stage.note(f"{accel.name}: {accel.why}")
    return accel


def start_guest(
    prepared: Prepared,
    accel: Accel,
    emulator: Emulator | None,
    *,
    cpus: int | None = None,
    patience: float | None = None,
    gdb: bool = False,
    arguments: tuple[str, ...] = (),
    layout: Layout,
) -> EmulatedDevice:
    """Boot one guest in a run folder of its own below build/runs."""
    return start(
        prepared,
        accel,
        emulator=emulator,
        run_dir=run_dir_of(prepared.kernel.target.policy, layout),
        cpus=cpus,
        patience=patience,
        gdb=gdb,
        arguments=arguments,
    )


def run_dir_of(name: str, layout: Layout) -> Path:
    """A new folder for the files of one guest."""
    runs = layout.build / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))


def equip(
    device: Device, prepared: Prepared, *, extra: Sequence[Path] = (), policy: Path | None = None
) -> None:
    """Push the programs, load the modules and select the policy: limits can be set at once."""
    with ui.stage("push") as stage:
        modules = [*prepared.kernel.modules, *([policy] if policy else [])]
        push(device, [*prepared.programs.files.values(), *extra], modules, stage=stage)
        if policy is not None:
            select = ["sh", "-c", f"echo {policy.stem} > {POLICY_FILE}"]
            if device.shell(select, timeout=COMMAND_TIMEOUT_S).returncode != 0:
                raise HarnessError(f"cannot select the policy {policy.stem}")
        stage.note(f"{len(prepared.programs.files)} programs, {len(modules)} modules loaded")


def push(
    device: Device, files: Sequence[Path], modules: Sequence[Path], *, stage: Stage | None = None
) -> None:
    """Bring programs and modules to the guest and load the modules, in this order."""
    for path in (*files, *modules):
        if stage is not None:
            stage.update(path.name)
        device.push(path, f"{GUEST_DIR}/{path.name}")
    for module in modules:
        loaded = device.shell(["insmod", f"{GUEST_DIR}/{module.name}"], timeout=20)
        if loaded.returncode != 0:
            raise HarnessError(f"cannot load {module.name}: {loaded.stderr.strip()}")
