"""The Perfetto trace, read back with the schema that Perfetto publishes: every slice, arrow and
watt."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackDescriptor, TrackEvent
from schedules import Op, operations, simulate, write_run

import hybridsim
from hybridsim.errors import InputError
from hybridsim.reports.perfetto import write_perfetto
from hybridsim.results.keys import operation
from hybridsim.results.read import Run

COPIED = ("id", "step", "count", "bits", "energy_j", "energy_low_j", "energy_high_j")
OPTIONAL = (
    "busy_ps",
    "flop",
    "bytes",
    "launches",
    "conversions",
    "writes",
    "layer",
    "factor",
    "note",
)


class Found(NamedTuple):
    """A slice of the trace: its place from the outermost track on, and where it stands in the
    file."""

    place: tuple[str, ...]
    track: int
    name: str
    start: int
    end: int
    args: dict[str, Any]
    sources: list[int]
    targets: list[int]
    order: int


class Parsed:
    """Slices and counters as a viewer has to understand them."""

    def __init__(self, data: bytes) -> None:
        trace = Trace.FromString(data)
        assert not any(packet.ByteSize() == 0 for packet in trace.packet)
        self.tracks: dict[int, Any] = {}
        self.slices: list[Found] = []
        self.counters: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self._names: dict[str, dict[int, str]] = {"event": {}, "annotation": {}}
        self._open: dict[int, tuple[int, Any, int]] = {}
        assert trace.packet[0].sequence_flags == 1, (
            "the first packet has to clear the interned names"
        )
        for order, packet in enumerate(trace.packet):
            assert packet.trusted_packet_sequence_id == 1
            self._names["event"] |= {n.iid: n.name for n in packet.interned_data.event_names}
            self._names["annotation"] |= {
                n.iid: n.name for n in packet.interned_data.debug_annotation_names
            }
            if packet.HasField("track_descriptor"):
                assert packet.track_descriptor.uuid not in self.tracks
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            elif packet.HasField("track_event"):
                assert packet.sequence_flags == 2 and packet.HasField("timestamp")
                self._event(packet.timestamp, packet.track_event, order)
        assert not self._open

    def _event(self, time: int, event: Any, order: int) -> None:
        uuid = event.track_uuid
        assert uuid in self.tracks, "a track is described before it is used"
        if event.type == TrackEvent.TYPE_COUNTER:
            self.counters[uuid].append((time, event.double_counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert uuid not in self._open
            self._open[uuid] = (time, event, order)
        else:
            assert event.type == TrackEvent.TYPE_SLICE_END
            start, begin, order = self._open.pop(uuid)
            args = {
                self._names["annotation"][a.name_iid]: getattr(a, a.WhichOneof("value"))
                for a in begin.debug_annotations
            }
            name = self._names["event"][begin.name_iid]
            arrows = list(begin.flow_ids), list(begin.terminating_flow_ids)
            self.slices.append(
                Found(self.place(uuid), uuid, name, start, time, args, *arrows, order)
            )

    def place(self, uuid: int) -> tuple[str, ...]:
        track = self.tracks[uuid]
        above = self.place(track.parent_uuid) if track.HasField("parent_uuid") else ()
        return (*above, track.name)


def parsed(run: Run, path, **options) -> Parsed:
    write_perfetto(run, path, **options)
    return Parsed(path.read_bytes())


def check(found: Parsed, run: Run, tick_ps: int = 1) -> None:
    """Every span is there with its times, place and arguments, and nothing else."""
    spans = run.spans.to_dict("records")
    assert len(found.slices) == len(spans)
    for shown, span in zip(sorted(found.slices, key=lambda s: s.order), spans, strict=True):
        assert shown.place[1:] == (span["part"], span["lane"])
        assert shown.name == operation(span["kind"], span["factor"])
        assert (shown.start, shown.end) == (span["start_ps"] // tick_ps, span["end_ps"] // tick_ps)
        expected = {name: span[name] for name in COPIED} | {
            name: span[name] for name in OPTIONAL if span[name]
        }
        expected |= {"waited_ps": span["start_ps"] - span["queued_ps"]}
        assert shown.args == expected | (
            {"blocker": span["blocker"]} if span["blocker"] >= 0 else {}
        )
    by_source = {arrow: s for s in found.slices for arrow in s.sources}
    assert len(by_source) == sum(len(s.sources) for s in found.slices), "an arrow has one source"
    targets = [arrow for s in found.slices for arrow in s.targets]
    assert sorted(targets) == sorted(by_source), "and one target"
    for shown, span in zip(sorted(found.slices, key=lambda s: s.order), spans, strict=True):
        sources = [by_source[arrow] for arrow in shown.targets]
        assert [source.args["id"] for source in sources] == list(span["parents"])
        assert all((source.start, source.order) < (shown.start, shown.order) for source in sources)
    check_nesting(found)


def check_nesting(found: Parsed) -> None:
    """On one track, sorted as a viewer sorts (by time, then place in the file), spans follow each
    other."""
    tracks: dict[int, list[Found]] = defaultdict(list)
    for shown in found.slices:
        tracks[shown.track].append(shown)
    for shown in tracks.values():
        shown.sort(key=lambda s: s.order)
        assert all(a.end <= b.start for a, b in zip(shown, shown[1:], strict=False))


@pytest.fixture(
    scope="module", params=["tngd-digits live", "kfac-digits timing", "tngd-digits-async timing"]
)
def run(request, tmp_path_factory) -> Run:
    name, backend = request.param.split()
    scenario = hybridsim.load(name, ["training.steps=4"])
    return hybridsim.run(scenario, tmp_path_factory.mktemp("run") / "run", backend=backend)


def test_every_slice_of_a_real_run_comes_back(run, tmp_path):
    found = parsed(run, tmp_path / "trace")
    check(found, run)
    (root,) = [track for track in found.tracks.values() if not track.HasField("parent_uuid")]
    assert "1 ns shown = 1 ps simulated" in root.name and run.name in root.name
    assert root.child_ordering == TrackDescriptor.EXPLICIT
    ranks = [
        (t.parent_uuid, t.sibling_order_rank)
        for t in found.tracks.values()
        if t.HasField("parent_uuid")
    ]
    assert len(set(ranks)) == len(ranks)


def test_the_power_of_a_real_run_adds_up_to_its_energy(run, tmp_path):
    found = parsed(run, tmp_path / "trace")
    parts = run.summary["energy"]["by_part"]
    total = {found.place(uuid)[1]: values for uuid, values in found.counters.items()}
    assert total.keys() == parts.keys()
    for part, values in total.items():
        assert values[-1] == (run.summary["makespan_ps"], 0.0)
        joules = sum(
            w * (b - a) * 1e-12 for (a, w), (b, _) in zip(values, values[1:], strict=False)
        )
        assert joules == pytest.approx(parts[part]["energy_j"], rel=1e-6)
    units = {found.tracks[uuid].counter.unit_name for uuid in found.counters}
    assert units == {"W"} and {found.place(uuid)[2] for uuid in found.counters} == {"power"}


def test_arrows_follow_a_step_through_the_machine(run, tmp_path):
    found = parsed(run, tmp_path / "trace")
    source = {arrow: s for s in found.slices for arrow in s.sources}
    edges = {(source[arrow].place[2], s.place[2]) for s in found.slices for arrow in s.targets}
    assert {("compute", "to hub"), ("to hub", "flight to hub"), ("flight to hub", "array")} <= edges
    assert edges & {("array", "dac"), ("flight to hub", "dac")} and edges & {
        ("dac", "core"),
        ("dac", "adc"),
    }
    assert {
        ("adc", "to gpu0"),
        ("to gpu0", "flight to gpu0"),
        ("flight to gpu0", "compute"),
    } <= edges


@settings(max_examples=30, deadline=None)
@given(operations(), st.sampled_from([1, 3, 1000]))
def test_made_up_runs_come_back_at_every_scale(tmp_path_factory, ops, tick_ps):
    folder = tmp_path_factory.mktemp("made-up")
    write_run(folder / "run", simulate(ops), parts=3)
    found = parsed(Run.open(folder / "run"), folder / "trace", tick_ps=tick_ps)
    check(found, Run.open(folder / "run"), tick_ps)


def test_overlapping_and_empty_spans_get_tracks_on_which_they_nest(tmp_path):
    rows = []
    for index, row in enumerate(simulate([Op(i, 0, [7, 0, 9, 9, 0, 3][i % 6]) for i in range(24)])):
        # as many messages in flight on one lane as there are
        start, length = 2 * (index // 3), row.end_ps - row.start_ps
        times = {"queued_ps": start, "start_ps": start, "end_ps": start + length}
        rows.append(row._replace(parents=(), blocker=-1, **times))
    rows.sort(key=lambda row: row.end_ps)
    write_run(tmp_path / "run", rows)
    found = parsed(Run.open(tmp_path / "run"), tmp_path / "trace")
    check(found, Run.open(tmp_path / "run"))
    assert len({s.track for s in found.slices}) > 1 and len({s.place for s in found.slices}) == 1


def test_names_of_any_kind_and_negative_numbers_survive(tmp_path):
    names = {"kind": "κ <b>\n" + "x" * 300, "layer": "层", "note": "“note”", "step": -3}
    row = simulate([Op(0, 0, 5)])[0]._replace(**names)
    write_run(tmp_path / "run", [row], steps=[], name="<script>")
    run = Run.open(tmp_path / "run")
    found = parsed(run, tmp_path / "trace")
    check(found, run)
    assert {found.place(uuid)[1] for uuid in found.counters} == {"part0", "gpu0", "spu0"}


def test_a_clock_that_stands_still_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="tick_ps"):
        write_perfetto(run, tmp_path / "trace", tick_ps=0)
