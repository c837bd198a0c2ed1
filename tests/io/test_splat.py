"""Splats of other programs, recognised by their content."""

import gzip
import struct

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io.ply import read_gaussians, write_gaussians
from ag2_ns.io.splat import SPLAT_ROW, SPZ_MAGIC, doubts, read_splat

C0 = 0.28209479177387814


@pytest.fixture
def gaussians() -> Gaussians:
    return some(300)


def some(count: int, degree: int = 3) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1)
    sh = torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.2
    scales = torch.rand(count, 3, generator=g) * 0.1 + 0.01
    return Gaussians(torch.randn(count, 3, generator=g), quats, scales, torch.rand(count, generator=g), sh)


def table(path) -> np.ndarray:
    return np.array(PlyData.read(str(path))["vertex"].data)  # not mapped: the file is replaced


def rewrite(path, values: np.ndarray) -> None:
    PlyData([PlyElement.describe(values, "vertex")]).write(str(path))


def alike(a: Gaussians, b: Gaussians, means=1e-3, scales=0.05, opacities=0.01, sh=0.05, turn=0.02) -> None:
    assert len(a) == len(b)
    assert (a.means - b.means).abs().max() < means
    assert (a.scales.log() - b.scales.log()).abs().max() < scales
    assert (a.opacities - b.opacities).abs().max() < opacities
    assert (a.sh[:, : b.sh.shape[1]] - b.sh[:, : a.sh.shape[1]]).abs().max() < sh
    unit = [torch.nn.functional.normalize(g.quats, dim=1) for g in (a, b)]
    assert 1 - (unit[0] * unit[1]).sum(1).abs().min() < turn


# Written by hand, after the formats' descriptions.


def spz(g: Gaussians, version: int) -> bytes:
    n, bits = len(g), 12
    fixed = (g.means.numpy().astype(np.float64) * (1 << bits)).round().astype(np.int64) & 0xFFFFFF
    xyz = np.stack([fixed & 255, fixed >> 8 & 255, fixed >> 16 & 255], -1).astype(np.uint8)
    byte = lambda v: np.clip(np.round(v), 0, 255).astype(np.uint8)  # noqa: E731
    q = g.quats.numpy().astype(np.float64)[:, [1, 2, 3, 0]]
    if version < 3:
        q = np.where(q[:, 3:] < 0, -q, q)
        turn = byte((q[:, :3] + 1) * 127.5)
    else:
        turn = np.zeros(n, np.uint32)
        for row in range(n):
            largest = int(np.abs(q[row]).argmax())
            packed, negate = largest, q[row, largest] < 0
            for k in range(4):
                if k != largest:
                    value = int(511 * abs(q[row, k]) / 0.5**0.5 + 0.5)
                    packed = packed << 10 | int((q[row, k] < 0) != negate) << 9 | value
            turn[row] = packed
        turn = turn.astype("<u4").view(np.uint8)
    parts = [
        xyz, byte(g.opacities.numpy() * 255), byte((g.sh[:, 0].numpy() * 0.15 + 0.5) * 255),
        byte((g.scales.log().numpy() + 10) * 16), turn, byte(g.sh[:, 1:].numpy() * 128 + 128),
    ]  # fmt: skip
    degree = round(g.sh.shape[1] ** 0.5) - 1
    head = struct.pack("<IIIBBBB", SPZ_MAGIC, version, n, degree, bits, 0, 0)
    return gzip.compress(head + b"".join(np.ascontiguousarray(p).tobytes() for p in parts))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["a.spz", "wrong.ply"])
def test_spz(version, name, tmp_path, gaussians):
    (tmp_path / name).write_bytes(spz(gaussians, version))
    alike(read_splat(tmp_path / name), gaussians)


def rows(g: Gaussians) -> np.ndarray:
    out = np.zeros(len(g), SPLAT_ROW)
    out["xyz"], out["scale"] = g.means.numpy(), g.scales.numpy()
    rgb = np.clip(g.sh[:, 0].numpy() * C0 + 0.5, 0, 1)
    out["rgba"] = np.round(np.concatenate([rgb, g.opacities.numpy()[:, None]], 1) * 255)
    out["rot"] = np.clip(np.round(g.quats.numpy() * 128 + 128), 0, 255)
    return out


@pytest.mark.parametrize("name", ["a.splat", "noname"])
def test_splat_rows(name, tmp_path, gaussians):
    (tmp_path / name).write_bytes(rows(gaussians).tobytes())
    found = read_splat(tmp_path / name)
    assert found.sh.shape[1] == 1
    alike(found, gaussians)


def compressed(g: Gaussians, path, colours: bool) -> None:
    """PlayCanvas's format, chunks of 256."""
    n, chunks = len(g), -(-len(g) // 256)
    rgb = np.clip(g.sh[:, 0].numpy() * C0 + 0.5, 0, 1).astype(np.float64)
    fields = {"x": 0, "y": 1, "z": 2}
    values = {name: g.means[:, k].numpy().astype(np.float64) for name, k in fields.items()}
    values |= {f"scale_{name}": g.scales[:, k].log().numpy().astype(np.float64) for name, k in fields.items()}
    values |= {name: rgb[:, k] for k, name in enumerate("rgb")} if colours else {}
    chunk = np.zeros(chunks, [(f"{e}_{name}", "f4") for e in ("min", "max") for name in values])
    share = {name: np.zeros(n) for name in values}
    for c in range(chunks):
        part = slice(256 * c, 256 * (c + 1))
        for name, all_values in values.items():
            low, high = np.float32(all_values[part].min()), np.float32(all_values[part].max())
            chunk[f"min_{name}"][c], chunk[f"max_{name}"][c] = low, high
            share[name][part] = (all_values[part] - low) / max(high - low, 1e-9)
    bits = lambda v, count: np.clip(np.round(v * ((1 << count) - 1)), 0, (1 << count) - 1).astype(np.uint32)  # noqa: E731
    triple = lambda a, b, c: bits(a, 11) << 21 | bits(b, 10) << 11 | bits(c, 11)  # noqa: E731
    q = g.quats.numpy().astype(np.float64)
    packed = np.zeros(n, [(f"packed_{k}", "u4") for k in ("position", "rotation", "scale", "color")])
    packed["packed_position"] = triple(*(share[k] for k in "xyz"))
    packed["packed_scale"] = triple(*(share[f"scale_{k}"] for k in "xyz"))
    for row in range(n):
        largest = int(np.abs(q[row]).argmax())
        unit = q[row] * np.sign(q[row, largest])
        word = largest
        for k in range(4):
            if k != largest:
                word = word << 10 | int(bits(unit[k] / 2**0.5 + 0.5, 10))
        packed["packed_rotation"][row] = word
    colour = [share[k] for k in "rgb"] if colours else list(rgb.T)
    word = np.zeros(n, np.uint32)
    for channel in (*colour, g.opacities.numpy()):
        word = word << 8 | bits(channel, 8)
    packed["packed_color"] = word
    sh = np.zeros(n, [(f"f_rest_{k}", "u1") for k in range(45)])
    rest = g.sh[:, 1:].transpose(1, 2).reshape(n, 45).numpy()
    for k in range(45):
        sh[f"f_rest_{k}"] = np.clip(np.trunc((rest[:, k] / 8 + 0.5) * 256), 0, 255)
    elements = {"chunk": chunk, "vertex": packed, "sh": sh}
    PlyData([PlyElement.describe(v, k) for k, v in elements.items()]).write(str(path))


@pytest.mark.parametrize("colours", [True, False])
def test_compressed_ply(colours, tmp_path, gaussians):
    compressed(gaussians, tmp_path / "a.ply", colours)
    alike(read_splat(tmp_path / "a.ply"), gaussians, means=5e-3, turn=1e-4)


def test_an_independent_program_agrees(tmp_path, gaussians):
    gsply = pytest.importorskip("gsply")
    write_gaussians(tmp_path / "a.ply", gaussians)
    content = gsply.plyread(tmp_path / "a.ply")
    gsply.plywrite(tmp_path / "a.compressed.ply", content, compressed=True)
    gsply.write_spz(tmp_path / "a.spz", content)
    for theirs, path in ((gsply.plyread, tmp_path / "a.compressed.ply"), (gsply.read_spz, tmp_path / "a.spz")):
        other, ours = theirs(path), read_splat(path)
        np.testing.assert_allclose(ours.means.numpy(), other.means, atol=1e-6)
        np.testing.assert_allclose(ours.scales.log().numpy(), other.scales, atol=1e-5)
        np.testing.assert_allclose(ours.sh[:, 1:].numpy(), other.shN, atol=1e-6)


# Recipe 10: plain colours, other degrees, other shapes.


def test_plain_colours(tmp_path):
    """`ns-export gaussian-splat --ply-color-mode rgb`."""
    g = some(20, 0)
    write_gaussians(tmp_path / "a.ply", g)
    v = table(tmp_path / "a.ply")
    kept = [n for n in v.dtype.names if not n.startswith("f_")]
    out = np.zeros(len(v), [*((n, "f4") for n in kept), ("red", "u1"), ("green", "u1"), ("blue", "u1")])
    for name in kept:
        out[name] = v[name]
    for k, name in enumerate(("red", "green", "blue")):
        out[name] = np.round(np.clip(g.sh[:, 0, k].numpy() * C0 + 0.5, 0, 1) * 255)
    rewrite(tmp_path / "a.ply", out)
    alike(read_splat(tmp_path / "a.ply"), g, means=1e-6, sh=0.01)


def test_bands_beyond_the_third_are_left_out(tmp_path):
    g = some(10)
    write_gaussians(tmp_path / "a.ply", g)
    v = table(tmp_path / "a.ply")
    plain = [n for n in v.dtype.names if not n.startswith("f_rest")]
    out = np.zeros(10, [(n, "f4") for n in (*plain, *(f"f_rest_{k}" for k in range(72)))])
    for name in plain:
        out[name] = v[name]
    for channel in range(3):
        for k in range(15):
            out[f"f_rest_{24 * channel + k}"] = v[f"f_rest_{15 * channel + k}"]
    rewrite(tmp_path / "a.ply", out)
    assert torch.equal(read_splat(tmp_path / "a.ply").sh, read_gaussians_of(v, tmp_path).sh)
    out = out[[n for n in out.dtype.names if n not in ("f_rest_70", "f_rest_71")]]
    rewrite(tmp_path / "b.ply", np.array(out.tolist(), dtype=[(n, "f4") for n in out.dtype.names]))
    with pytest.raises(UserError, match=r"70 f_rest_\* properties"):
        read_splat(tmp_path / "b.ply")


def read_gaussians_of(values, folder) -> Gaussians:
    rewrite(folder / "plain.ply", values)
    return read_gaussians(folder / "plain.ply")


def test_flat_gaussians_and_the_filter_of_mip_splatting(tmp_path):
    g = some(12)
    write_gaussians(tmp_path / "a.ply", g, {"filter_3D": torch.full((12,), 0.05)})
    found = read_splat(tmp_path / "a.ply")
    wide = (g.scales**2 + 0.05**2).sqrt()
    assert torch.allclose(found.scales, wide, rtol=1e-4)
    assert torch.allclose(found.opacities, g.opacities.clamp(1e-6, 1) * (g.scales / wide).prod(1), atol=1e-5)
    write_gaussians(tmp_path / "a.ply", g)
    v = table(tmp_path / "a.ply")
    rewrite(tmp_path / "a.ply", np.array(v[[n for n in v.dtype.names if n != "scale_2"]].tolist(),
                                         dtype=[(n, "f4") for n in v.dtype.names if n != "scale_2"]))  # fmt: skip
    found = read_splat(tmp_path / "a.ply")
    assert (found.scales[:, 2] == 0).all() and torch.allclose(found.scales[:, :2], g.scales[:, :2])


# Recipe 9: infinities that have a meaning.


def test_infinities_that_mean_something_are_kept(tmp_path, gaussians):
    write_gaussians(tmp_path / "a.ply", gaussians)
    v = table(tmp_path / "a.ply").copy()
    v["opacity"][:100], v["opacity"][100:150], v["scale_2"][::5] = np.inf, -np.inf, -np.inf
    v["opacity"][200], v["scale_0"][201], v["x"][202], v["rot_0"][203] = np.nan, np.inf, np.inf, np.nan
    rewrite(tmp_path / "a.ply", v)
    found = read_splat(tmp_path / "a.ply")
    assert len(found) == 296
    assert (found.opacities[:100] == 1).all() and (found.opacities[100:150] == 0).all()
    assert (found.scales[:200:5, 2] == 0).all()
    write_gaussians(tmp_path / "b.ply", found)
    assert len(read_splat(tmp_path / "b.ply")) == 296, "what was read can be written"


# What is not read.


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.splat", np.random.default_rng(0).bytes(3200), "neither a PLY nor a .splat nor a .spz"),
        ("a.spz", gzip.compress(struct.pack("<IIIBBBB", SPZ_MAGIC, 2, 9, 0, 12, 0, 0) + bytes(5)), "damaged .spz"),
        ("a.spz", gzip.compress(struct.pack("<IIIBBBB", SPZ_MAGIC, 9, 9, 0, 12, 0, 0) + bytes(500)), "version 9"),
        ("a.spz", struct.pack("<II", SPZ_MAGIC, 4) + bytes(100), "SPZ file of version 4"),
        ("a.spz", gzip.compress(b"a text in an archive"), "holds no SPZ"),
        ("a.sog", b"PK\x03\x04" + bytes(100), "zip archive"),
        ("a.ksplat", bytes(4097), ".ksplat file"),
        ("a.ply", b"", "neither a PLY"),
        ("a.glb", b"glTF" + bytes(60), "glTF"),
        ("a.pth", b"\x80\x02" + bytes(60), "checkpoint"),
    ],
    ids=str.split("noise damaged version-9 version-4 no-splat zip ksplat empty gltf pickle"),
)
def test_other_formats_are_named_with_the_way_out(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_splat(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_splat(tmp_path / "a.ply")


def test_values_that_are_no_logits(gaussians):
    assert doubts(gaussians) == ""
    wrong = Gaussians(
        gaussians.means, gaussians.quats, gaussians.scales.exp(), gaussians.opacities.sigmoid(), gaussians.sh
    )
    assert "opacities" in doubts(wrong) and "scales are all positive" in doubts(wrong)


# Surveys.


def test_positions_in_double_precision(tmp_path, gaussians):
    far = (441547.502, 5121946.513, 2345.087)
    write_gaussians(tmp_path / "a.ply", gaussians, offset=far)
    v = table(tmp_path / "a.ply")
    assert v.dtype["x"] == np.float64 and v.dtype["opacity"] == np.float32
    assert torch.allclose(read_splat(tmp_path / "a.ply", far).means, gaussians.means, atol=1e-6)
    assert (read_splat(tmp_path / "a.ply").means - torch.tensor(far)).sub(gaussians.means).abs().max() > 0.01
