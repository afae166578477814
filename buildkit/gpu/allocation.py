"""Which devices each request gets, given the host and what running containers have. Pure.

Requests are an assignment problem: one that may have any of two devices leaves the one that another request needs
(Kuhn's augmenting paths). The first request wins where there is not enough for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from buildkit.gpu.eligibility import HeldDevice, Unmet, WantedGpus, check_device, check_host, format_gib, may_share
from buildkit.gpu.host_devices import GpuHost, HostDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The devices that a request gets, sorted by index."""

    devices: tuple[HostDevice, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The CDI names, as ``podman run --device`` takes them."""
        return tuple(device.name for device in self.devices)

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs."""
        return tuple(device.uuid for device in self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request gets nothing: every reason that was found."""

    reasons: tuple[Unmet, ...]


def allocate(
    wanted: Sequence[WantedGpus], host: GpuHost, held: Iterable[HeldDevice] = ()
) -> dict[str, Grant | Refusal]:
    """Return the devices that each container gets, or why it gets none, by name; no exclusive device twice.

    ``held`` are the devices of running containers. A container of the same name as one that is wanted is its
    predecessor, which ends before: its devices go to nobody else, and to it if they still do.
    """
    table = _Table(host, tuple(held))
    results: dict[str, Grant | Refusal] = {}
    for one in sorted(wanted, key=_urgency):
        slots = table.slots(one)
        if isinstance(slots, Refusal):
            results[one.container] = slots
        elif not table.place_all(slots):
            results[one.container] = table.explain(one, len(slots))
        else:
            results[one.container] = Grant(devices=())  # others may still move it
    found = ((one.container, results[one.container]) for one in wanted)
    return {name: table.grant(name) if isinstance(result, Grant) else result for name, result in found}


def _urgency(wanted: WantedGpus) -> tuple[bool, bool]:
    """Sort what may run on the CPU last, and what shares behind what does not: one that is alone can still move."""
    return (wanted.request.optional, wanted.request.share != "exclusive")


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """One device of a request, and the devices that do for it, the best first."""

    wanted: WantedGpus
    candidates: tuple[HostDevice, ...]


@dataclass(slots=True)
class _Table:
    """Who gets what, so far."""

    host: GpuHost
    held: tuple[HeldDevice, ...]
    taken: dict[str, list[_Slot]] = field(default_factory=dict)

    def slots(self, wanted: WantedGpus) -> tuple[_Slot, ...] | Refusal:
        """Return the devices that a request is about."""
        if reasons := tuple(check_host(wanted.request, self.host)):
            return Refusal(reasons=reasons)
        request = wanted.request
        if request.devices or request.every:
            return self._named_slots(wanted)
        fit = [device for device in self.host.devices() if not self._why_not(wanted, device)]
        ranked = tuple(sorted(fit, key=lambda device: self._rank(wanted, device)))
        if len(ranked) < request.count:
            return self.explain(wanted, request.count)
        return tuple(_Slot(wanted, ranked) for _ in range(request.count))

    def _named_slots(self, wanted: WantedGpus) -> tuple[_Slot, ...] | Refusal:
        found: dict[str, HostDevice] = {}
        reasons: list[Unmet] = []
        for word in wanted.request.devices or ("all",):
            devices = self.host.find(word)
            if not devices:
                there = ", ".join(device.title for device in self.host.devices())
                reasons.append(
                    Unmet(device=word, wanted="this device", found=f"there are {there}" if there else "there is none")
                )
            elif len(devices) > 1 and word != "all":
                there = ", ".join(device.title for device in devices)
                reasons.append(
                    Unmet(device=word, wanted="one device", found=f"it is divided (MIG): name one of {there}")
                )
            found |= {device.uuid: device for device in devices}
        reasons += [why for device in found.values() for why in self._why_not(wanted, device)]
        if reasons:
            return Refusal(reasons=tuple(reasons))
        return tuple(_Slot(wanted, (device,)) for device in found.values())

    def _holders(self, device: HostDevice) -> tuple[HeldDevice, ...]:
        return tuple(one for one in self.held if one.uuid == device.uuid)

    def _why_not(self, wanted: WantedGpus, device: HostDevice) -> tuple[Unmet, ...]:
        return tuple(check_device(wanted, device, self._holders(device)))

    def _rank(self, wanted: WantedGpus, device: HostDevice) -> tuple[bool, bool, bool, bool, int]:
        """Sort what its predecessor had first, then what is shared already, idle, small: what leaves most to others."""
        holders = self._holders(device)
        own = any(one.container == wanted.container for one in holders)
        return (not own, not holders, device.busy, not device.is_mig, device.memory or 0)

    def place_all(self, slots: Sequence[_Slot]) -> bool:
        """Give every slot a device, moving others if need be; nothing is changed if one gets none."""
        before = {uuid: list(owners) for uuid, owners in self.taken.items()}
        if all(self._place(slot, set()) for slot in slots):
            return True
        self.taken = before
        return False

    def _place(self, slot: _Slot, seen: set[str]) -> bool:
        for device in sorted(slot.candidates, key=lambda one: self._effort(slot, one)):
            if device.uuid in seen:
                continue
            seen.add(device.uuid)
            owners = self.taken.setdefault(device.uuid, [])
            if not owners or self._joins(slot, device):
                owners.append(slot)
                return True
            if len(owners) == 1 and owners[0].wanted is not slot.wanted and self._place(owners[0], seen):
                self.taken[device.uuid] = [slot]
                return True
        return False

    def _effort(self, slot: _Slot, device: HostDevice) -> int:
        """Sort devices that the slot may share first, then free ones, then those that another has to leave."""
        return 0 if self._joins(slot, device) else 1 if not self.taken.get(device.uuid) else 2

    def _joins(self, slot: _Slot, device: HostDevice) -> bool:
        """Return whether a slot may share a device with the containers that it was given to."""
        owners = self.taken.get(device.uuid, ())
        others = [one.wanted for one in owners]
        if not others or slot.wanted in others or not all(may_share(slot.wanted, _as_held(one)) for one in others):
            return False
        apart = slot.wanted.request.apart
        if apart and any(one.request.apart == apart for one in others):
            return False
        memory = slot.wanted.memory + sum(one.memory for one in others)
        return not memory or memory <= (device.free or 0)

    def grant(self, container: str) -> Grant:
        """Return what a container was given."""
        given = {uuid for uuid, slots in self.taken.items() if any(one.wanted.container == container for one in slots)}
        return Grant(devices=tuple(device for device in self.host.devices() if device.uuid in given))

    def explain(self, wanted: WantedGpus, count: int) -> Refusal:
        """Return why there are too few devices: what is wrong with each, and which go to another request."""
        reasons: list[Unmet] = []
        fit = 0
        for device in self.host.devices():
            if why := self._why_not(wanted, device):
                reasons += why
                continue
            fit += 1
            reasons += [self._unshared(wanted, device, one.wanted) for one in self.taken.get(device.uuid, ())]
        if count > 1 or not reasons:
            reasons.insert(0, Unmet(wanted=f"{count} GPU{'s' if count > 1 else ''} at once", found=f"{fit} would do"))
        return Refusal(reasons=tuple(reasons))

    def _unshared(self, wanted: WantedGpus, device: HostDevice, other: WantedGpus) -> Unmet:
        if may_share(wanted, _as_held(other)):
            both = format_gib(wanted.memory + other.memory)
            return Unmet(
                device=device.title,
                wanted=f"{both} of free memory with {other.container}",
                found=f"{format_gib(device.free or 0)} are free",
            )
        return Unmet(device=device.title, wanted="a GPU that it may have", found=f"it goes to {other.container}")


def _as_held(wanted: WantedGpus) -> HeldDevice:
    return HeldDevice(uuid="", container=wanted.container, share=wanted.request.share, environment=wanted.environment)
