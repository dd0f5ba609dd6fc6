# SPDX-License-Identifier: GPL-2.0-only
"""Runs cases on booted devices: which guest a case gets, and what became of it.

Cases share a boot, because booting costs more than most cases.  A kernel serves those of
any policy, which is selected at run time; only what shows that a policy holds from boot
on needs the kernel that was built with it.  A case that fails or crashes taints the boot,
and the next one gets a fresh guest.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from harness.case.candidates import Candidate
from harness.case.guest import Guest, GuestKernel
from harness.case.judge import Observation, Status, judge
from harness.case.observe import observe
from harness.case.samples import Samples
from harness.case.scenario import Case
from harness.device.device import Device
from harness.errors import ExitCode, GuestCrash, HarnessError
from harness.kmsg import KillEvent


@dataclass(frozen=True)
class CaseResult:
    """What became of one case; ``detail`` and ``log_lines`` explain a failure.

    ``candidates``, ``samples`` and ``log``, all of the kernel's, are what a report shows;
    ``console`` is the file with all that the guest's console has shown, and
    ``observation`` what was judged.
    """

    case: Case
    status: Status
    seconds: float
    kills: tuple[KillEvent, ...] = ()
    detail: tuple[str, ...] = ()
    log_lines: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    samples: Samples = field(default_factory=Samples)
    log: tuple[str, ...] = ()
    console: str = ""
    observation: Observation | None = None


class KernelRunner:
    """Runs cases on one kernel, on one boot as long as all goes well."""

    def __init__(self, kernel: GuestKernel, *, programs: Mapping[str, Path]) -> None:
        self._kernel = kernel
        self._programs = programs
        self._guest: Guest | None = None
        self._broken = ""
        self._console = ""
        self._closed = threading.Event()

    def run_case(self, case: Case) -> CaseResult:
        """Run and judge one case.  A crash or failure is a result, not an exception.

        Raises HarnessError if the device cannot be started at all.
        """
        begin = time.monotonic()
        if self._broken:
            return CaseResult(case, Status.ERROR, 0.0, detail=(self._broken,))
        try:
            guest = self._booted(case)
            begin = time.monotonic()  # booting is not the case's own time
            observation = observe(guest, case)
        except GuestCrash as crash:
            result = _crashed(case, crash)
        except HarnessError as error:
            if self._guest is None:
                raise
            result = _error(case, error)
        else:
            result = judged(case, observation)
        if result.status is not Status.PASSED:
            self._drop_guest(spoiled=True)
        return replace(result, seconds=time.monotonic() - begin, console=self._console)

    def _booted(self, case: Case) -> Guest:
        if case.scenario.compiled_in and self._guest is not None and not self._guest.as_booted:
            self._drop_guest()
        if self._guest is None:
            device = self._boot(case)
            self._console = device.console
            try:
                self._guest = Guest(device, self._kernel, self._programs)
            except BaseException:
                device.close()
                raise
        return self._guest

    def _boot(self, case: Case) -> Device:
        """Boot; a kernel that crashes as it boots will do so again, so try it once."""
        try:
            device = self._kernel.boot()
        except GuestCrash:
            self._broken = f"not run: the kernel with policy {case.kernel} crashes at boot"
            raise
        if self._closed.is_set():  # closed by another thread meanwhile
            device.close()
            raise HarnessError("the run was stopped")
        return device

    def _drop_guest(self, *, spoiled: bool = False) -> None:
        guest, self._guest = self._guest, None
        if guest is not None and spoiled:
            guest.device.abandon()
        elif guest is not None:
            guest.device.close()

    def close(self) -> None:
        """Stop the device.  May be called twice, and from another thread."""
        self._closed.set()
        self._drop_guest()


def _crashed(case: Case, crash: GuestCrash) -> CaseResult:
    return CaseResult(case, Status.CRASHED, 0.0, detail=(str(crash),), log_lines=crash.details)


def _error(case: Case, error: HarnessError) -> CaseResult:
    return CaseResult(case, Status.ERROR, 0.0, detail=(str(error),), log_lines=error.details)


def judged(case: Case, observation: Observation) -> CaseResult:
    """The verdict on what was seen, as a result."""
    verdict = judge(case, observation)
    detail = [
        line
        for finding in verdict.findings
        for line in (f"expected: {finding.expected}", f"seen:     {finding.seen}")
    ]
    return CaseResult(
        case,
        verdict.status,
        0.0,
        kills=verdict.kills,
        detail=tuple(detail),
        log_lines=verdict.log_lines,
        candidates=observation.candidates,
        samples=observation.samples,
        log=observation.log.lines,
        observation=observation,
    )


class Runner:
    """Runs cases on any kernel; keeps one device, that of the kernel last used.

    Use as a context manager: leaving it stops the device.
    """

    def __init__(self, kernels: Mapping[str, GuestKernel], *, programs: Mapping[str, Path]) -> None:
        self._kernels = kernels
        self._programs = programs
        self._name = ""
        self._current: KernelRunner | None = None
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def kernel(self) -> str:
        """The kernel last used; empty before the first case."""
        return self._name

    def run_case(self, case: Case) -> CaseResult:
        """As KernelRunner.run_case(); changes the device if the kernel changes."""
        return self._for(case).run_case(case)

    def close(self) -> None:
        """Stop the device.  May be called twice, and from another thread."""
        with self._lock:
            self._closed = True
            if self._current is not None:
                self._current.close()

    def _for(self, case: Case) -> KernelRunner:
        """The runner of the case's kernel; the one before has stopped its device."""
        with self._lock:
            if self._closed:
                raise HarnessError("the run was stopped")
            if self._current is None or self._name != case.kernel:
                if self._current is not None:
                    self._current.close()
                kernel = _kernel_of(case, self._kernels)
                self._current = KernelRunner(kernel, programs=self._programs)
                self._name = case.kernel
            return self._current


def _kernel_of(case: Case, kernels: Mapping[str, GuestKernel]) -> GuestKernel:
    kernel = kernels.get(case.kernel)
    if kernel is None:
        raise HarnessError(f"no kernel was built with policy {case.kernel}")
    return kernel


def run_cases(
    cases: Sequence[Case],
    kernels: Mapping[str, GuestKernel],
    *,
    programs: Mapping[str, Path],
    jobs: int = 1,
) -> Generator[CaseResult, None, None]:
    """Run all ``cases``, yielding each result as it comes.

    With ``jobs`` > 1 as many run side by side, each on a device of its own.  Closing the
    generator, Ctrl-C included, stops all devices.
    """
    for case in cases:
        _kernel_of(case, kernels)
    left = _CasesLeft(cases)
    if jobs > 1 and len(cases) > 1:
        yield from _run_side_by_side(left, kernels, programs, min(jobs, len(cases)))
        return
    with Runner(kernels, programs=programs) as runner:
        while (one := left.take(runner.kernel)) is not None:
            yield runner.run_case(one)


class _CasesLeft:
    """The cases that nobody has taken yet, by kernel."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._lock = threading.Lock()
        self._by_kernel: dict[str, deque[Case]] = {}
        for case in cases:
            self._by_kernel.setdefault(case.kernel, deque()).append(case)

    def take(self, kernel: str) -> Case | None:
        """A case for this kernel, or for that which has most to do; None if none is left.

        What takes longest is begun first, so that it does not run on alone.
        """
        with self._lock:
            queues = self._by_kernel
            if not queues.get(kernel):
                kernel = max(queues, key=lambda name: sum(one.timeout for one in queues[name]))
            return queues[kernel].popleft() if queues[kernel] else None

    def clear(self) -> None:
        """Nothing is to be begun any more."""
        with self._lock:
            for cases in self._by_kernel.values():
                cases.clear()


def _run_side_by_side(
    left: _CasesLeft,
    kernels: Mapping[str, GuestKernel],
    programs: Mapping[str, Path],
    jobs: int,
) -> Generator[CaseResult, None, None]:
    runners = [Runner(kernels, programs=programs) for _ in range(jobs)]
    results: queue.SimpleQueue[CaseResult | Exception | None] = queue.SimpleQueue()

    def work(runner: Runner) -> None:
        try:
            while (case := left.take(runner.kernel)) is not None:
                results.put(runner.run_case(case))
        except Exception as error:  # handed over: the main thread raises it
            results.put(error)
        finally:
            runner.close()
            results.put(None)

    executor = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="cases")
    try:
        for runner in runners:
            executor.submit(work, runner)
        running = len(runners)
        while running:
            result = results.get()
            if result is None:
                running -= 1
            elif isinstance(result, Exception):
                raise result
            else:
                yield result
    finally:
        left.clear()
        for runner in runners:
            with suppress(HarnessError):
                runner.close()
        executor.shutdown(wait=True, cancel_futures=True)


def exit_code(results: Sequence[CaseResult]) -> ExitCode:
    """The exit code of a run: the worst that happened decides."""
    seen = {result.status for result in results}
    if Status.CRASHED in seen:
        return ExitCode.GUEST_CRASHED
    if Status.FAILED in seen:
        return ExitCode.SCENARIO_FAILED
    if Status.ERROR in seen or not results:
        return ExitCode.HARNESS_ERROR
    return ExitCode.PASSED
