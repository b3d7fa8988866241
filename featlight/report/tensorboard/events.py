"""TensorBoard event files, written synchronously, and read again when a run is resumed."""

import io
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import IO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from featlight.store.guard.run_folder import RunFolder

PREFIX = "events.out.tfevents."
EVENTS_BYTES = 4 << 30  # limit of one file; a run of ten thousand tiles writes about 100 MB


class EventLog:
    """Writer of a new event file in a run, which skips events that the run's other event files hold.

    TensorBoard's own writer has a thread of its own, which prints a traceback when the disk is full.

    Args:
        folder: run directory.

    Raises:
        StorageError: the directory cannot be read.
        OSError: the file cannot be written; every method may raise it.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.last: dict[str, int] = {}  # the greatest step of each tag
        self.steps: dict[str, set[int]] = {}  # all steps of each tag
        self._folder, place = folder, folder.root / "tensorboard"
        for path in [place / name for name in folder.names(place) if name.startswith(PREFIX)]:
            with folder.open(path, EVENTS_BYTES) as file:
                for event in _events(file):
                    for value in event.summary.value:
                        self._note(value, event.step)
        stamp = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns() % 10**9:09d}"
        self.path = place / f"{PREFIX}{stamp}"
        self._buffer = io.BytesIO()
        self._records = RecordWriter(self._buffer)
        self._records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        self._head = len(self._buffer.getvalue())

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number, unless the tag has one at this step."""
        self._add(Summary.Value(tag=tag, simple_value=value), step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        data = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()], tensor_shape=shape)
        self._add(Summary.Value(tag=f"{tag}/text_summary", metadata=data, tensor=tensor), step)

    def picture(self, tag: str, jpeg: bytes, size: tuple[int, int], step: int) -> None:
        """Add a JPEG; `size` is its width and height in pixels."""
        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=jpeg)
        self._add(Summary.Value(tag=tag, image=image), step)

    def flush(self) -> None:
        """Write the added events in one piece: if the process dies, all of them are on disk or none."""
        content = self._buffer.getvalue()
        if len(content) > self._head:
            self._buffer.seek(0)
            self._buffer.truncate()
            self._head = 0
            with self._folder.appending(self.path) as file:
                start = file.seek(0, io.SEEK_END)
                try:
                    file.write(content)
                    file.flush()
                except OSError:
                    file.truncate(start)  # readers stop at half an event
                    raise

    def summary(self, summary: Summary, step: int) -> None:
        """Add a summary that a plugin's helper has made."""
        for value in summary.value:
            self._add(value, step)

    def _add(self, value: Summary.Value, step: int) -> None:
        if step not in self.steps.get(value.tag, ()):
            self._note(value, step)
            event = Event(wall_time=time.time(), step=step, summary=Summary(value=[value]))
            self._records.write(event.SerializeToString())

    def _note(self, value: Summary.Value, step: int) -> None:
        self.last[value.tag] = max(step, self.last.get(value.tag, -1))
        self.steps.setdefault(value.tag, set()).add(step)


def _events(file: IO[bytes]) -> Iterator[Event]:
    """Yield the events of a file, up to an incomplete one that a killed process left.

    An event is stored as its length (8 bytes), a checksum of the length (4), its bytes, and a checksum of these (4).
    """
    size = os.fstat(file.fileno()).st_size
    while len(header := file.read(12)) == 12:
        length, check = struct.unpack("<QI", header)
        # a wrong length must not allocate more bytes than the file has
        if check != masked_crc32c(header[:8]) or length > size or len(data := file.read(length)) < length:
            return
        file.read(4)
        try:
            yield Event.FromString(data)
        except DecodeError:
            return
