"""What a file holds, by its first bytes: names do not tell."""

import enum
import struct
from typing import NamedTuple

HEAD = 4096  # bytes that are enough to tell


class Content(enum.Enum):
    """What can be done with a file."""

    PICTURE = "picture"
    FILM = "film"
    SOUND = "sound"
    OTHER = "other"  # known, and neither


class Signature(NamedTuple):
    """What the first bytes of a file say."""

    content: Content
    name: str  # for messages, with its article


HEIC = Signature(Content.PICTURE, "a HEIC picture")
AVIF = Signature(Content.PICTURE, "an AVIF picture")
JPEG = Signature(Content.PICTURE, "a JPEG picture")
PNG = Signature(Content.PICTURE, "a PNG picture")
GIF = Signature(Content.PICTURE, "a GIF picture")
TIFF = Signature(Content.PICTURE, "a TIFF picture")
WEBP = Signature(Content.PICTURE, "a WebP picture")
_RAW = Signature(Content.OTHER, "a camera's raw picture")
_MP4 = Signature(Content.FILM, "an MP4 or QuickTime file")
_TRANSPORT = Signature(Content.FILM, "an MPEG transport stream")

# Where in the file, which bytes, and what they say; the first that fits.
_TABLE: tuple[tuple[int, bytes, Signature], ...] = (
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (0, b"\0\0\0\x0cjP  ", Signature(Content.PICTURE, "a JPEG 2000 picture")),
    (0, b"\xff\x4f\xff\x51", Signature(Content.PICTURE, "a JPEG 2000 picture")),
    (0, b"\x76\x2f\x31\x01", Signature(Content.OTHER, "an OpenEXR picture")),
    (0, b"#?RADIANCE", Signature(Content.OTHER, "a Radiance picture")),
    (0, b"\0\0\0\x0cJXL ", Signature(Content.OTHER, "a JPEG XL picture")),
    (0, b"\xff\x0a", Signature(Content.OTHER, "a JPEG XL picture")),
    (0, b"8BPS", Signature(Content.OTHER, "a Photoshop file")),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"\x1a\x45\xdf\xa3", Signature(Content.FILM, "a Matroska or WebM file")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Signature(Content.FILM, "a Windows Media file")),
    (0, b"FLV\x01", Signature(Content.FILM, "a Flash video")),
    (0, b"OggS", Signature(Content.FILM, "an Ogg file")),
    (0, b"\0\0\x01\xba", Signature(Content.FILM, "an MPEG program stream")),
    (0, b"\0\0\x01\xb3", Signature(Content.FILM, "an MPEG video stream")),
    (0, b"\x1f\x07\0", Signature(Content.FILM, "a DV file")),
    (0, b"YUV4MPEG2", Signature(Content.FILM, "a YUV4MPEG file")),
    (0, b"DKIF", Signature(Content.FILM, "an IVF file")),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", Signature(Content.FILM, "an MXF file")),
    (0, b".RMF", Signature(Content.FILM, "a RealMedia file")),
    (4, b"ftyp", _MP4),
    (4, b"moov", _MP4),
    (4, b"mdat", _MP4),
    (4, b"wide", _MP4),
    (4, b"skip", _MP4),
    (4, b"free", _MP4),
    (0, b"ID3", Signature(Content.SOUND, "an MP3 file")),
    (0, b"fLaC", Signature(Content.SOUND, "a FLAC file")),
    (0, b"#!AMR", Signature(Content.SOUND, "an AMR file")),
    (0, b"\xff\xfb", Signature(Content.SOUND, "an MP3 file")),
    (0, b"\xff\xf1", Signature(Content.SOUND, "an AAC file")),
    (0, b"\xff\xf9", Signature(Content.SOUND, "an AAC file")),
    (0, b"#EXTM3U", Signature(Content.OTHER, "a list of other files")),
    (0, b"ffconcat", Signature(Content.OTHER, "a list of other files")),
    (0, b"[playlist]", Signature(Content.OTHER, "a list of other files")),
    (0, b"%PDF", Signature(Content.OTHER, "a PDF document")),
    (0, b"%!PS", Signature(Content.OTHER, "a PostScript document")),
    (0, b"PK\x03\x04", Signature(Content.OTHER, "a ZIP archive or Office document")),
    (0, b"\x1f\x8b", Signature(Content.OTHER, "a gzip archive")),
    (0, b"Rar!", Signature(Content.OTHER, "a RAR archive")),
    (0, b"7z\xbc\xaf\x27\x1c", Signature(Content.OTHER, "a 7z archive")),
    (0, b"\x89HDF", Signature(Content.OTHER, "an HDF5 file")),
    (0, b"\x93NUMPY", Signature(Content.OTHER, "a NumPy array")),
    (0, b"MATLAB 5", Signature(Content.OTHER, "a MATLAB file")),
    (0, b"\0\x05\x16\x07", Signature(Content.OTHER, "a file of macOS about another file")),
    (128, b"DICM", Signature(Content.OTHER, "a DICOM file")),
)
_RIFF = {
    b"WEBP": WEBP,
    b"AVI ": Signature(Content.FILM, "an AVI file"),
    b"AVIX": Signature(Content.FILM, "an AVI file"),
    b"WAVE": Signature(Content.SOUND, "a WAV file"),
}
# Kinds of MP4's relatives, by the brands in their first box.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"mif1", b"mif2", b"msf1", b"miaf"}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P "}
_TS_STEPS = ((0, 188), (4, 192), (0, 204))  # bytes before the first mark, and between two
_SUBFILE, _REDUCED = 254, 1  # a TIFF's tag of what its first picture is, and its bit for previews


def sniff(data: bytes) -> Signature | None:
    """Tells what a file holds.

    Args:
        data: its first `HEAD` bytes, or all.
    Returns:
        The kind; None where the bytes are of none that is known.
    """
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _RAW if data[8:10] == b"CR" or _is_preview(data) else TIFF
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    for offset, mark, signature in _TABLE:
        if data.startswith(mark, offset):
            return signature
    return _by_structure(data)


def _by_structure(data: bytes) -> Signature | None:
    """Kinds whose first bytes alone say too little."""
    if data[:2] == b"BM" and len(data) > 18 and data[14:18] in _BITMAP_HEADERS:
        return Signature(Content.PICTURE, "a BMP picture")
    if len(data) > 2 and data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return Signature(Content.PICTURE, "a PNM picture")
    return None if transport_step(data) is None else _TRANSPORT


def transport_step(data: bytes) -> int | None:
    """Bytes of a packet of an MPEG transport stream; None if it is none."""
    for first, step in _TS_STEPS:
        marks = data[first : first + 4 * step : step]
        if len(marks) == 4 and set(marks) == {0x47}:
            return step
    return None


# Lengths of the second header that there are: of OS/2, Windows and their later versions.
_BITMAP_HEADERS = {struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)}


def _by_brand(data: bytes) -> Signature:
    size = min(int.from_bytes(data[:4], "big"), len(data))
    major = data[8:12]
    brands = {major, *(data[at : at + 4] for at in range(16, size - 3, 4))}
    if major in _HEIC_BRANDS | _AVIF_BRANDS | _HEIF_BRANDS:
        return AVIF if brands & _AVIF_BRANDS and not brands & _HEIC_BRANDS else HEIC
    if major == b"crx ":
        return _RAW
    if major in _SOUND_BRANDS:
        return Signature(Content.SOUND, "an M4A file")
    return _MP4


def _is_preview(data: bytes) -> bool:
    """Whether a TIFF's first picture is the preview of another, as in raw files of cameras."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8 or data[2:4] not in (b"*\0", b"\0*"):
        return False
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return False
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHII", data, at)
        if tag == _SUBFILE:
            return bool((value if kind == 4 else value >> 16 if order == ">" else value) & _REDUCED)
    return False
