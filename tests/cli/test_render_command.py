import json
import subprocess

import numpy as np
import pytest
import torch
from blob_run import RING, build, ring_pose
from PIL import Image

from ag2_ns.cli.main import main
from ag2_ns.core.errors import UserError
from ag2_ns.rendering.video import COLORS, draw_legend, frame_writer

BLACK = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return build(tmp_path_factory.mktemp("render"))


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.delenv("AG2_QUERY", raising=False)


def render(config, out, *options):
    main(["render", "--load-config", str(config), "--output-path", str(out), *map(str, options)])


def frames(folder):
    return [np.asarray(Image.open(p)).astype(int) for p in sorted(folder.glob("*.png"))]


def near(picture, color, tolerance=40):
    return (abs(picture - 255 * np.array(color)).max(-1) < tolerance).sum()


def probe(path):
    from imageio_ffmpeg import get_ffmpeg_exe

    return subprocess.run([get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True).stderr


def test_two_prompts_have_two_colours_and_a_legend(config, tmp_path):
    render(config, tmp_path / "o", "--text", "red ball", "--text", "blue ball", "--frames", 6, "--size", 96, 72)
    shown = frames(tmp_path / "o")
    assert len(shown) == 6 and all(f.shape == (72, 96, 3) for f in shown)
    for color in COLORS[:2]:
        assert sum(near(f, color) > 15 for f in shown) >= 4
    render(config, tmp_path / "p", "--text", "red ball", "--frames", 6, "--size", 96, 72, "--no-legend")
    assert np.abs(frames(tmp_path / "p")[0][:30, :60] - shown[0][:30, :60]).max() > 60


def test_an_orbit_turns_around_what_is_marked(config, tmp_path):
    render(config, tmp_path / "o", "--text", "red ball", "--frames", 4, "--orbit", "--no-legend", "--size", 64, 64)
    for frame in frames(tmp_path / "o"):
        assert frame[28:36, 28:36, 0].mean() > 140 > frame[28:36, 28:36, 2].mean()
    pictures = frames(tmp_path / "o")
    assert np.abs(pictures[0] - pictures[2]).mean() > 2


def test_a_video_is_h264_that_browsers_play(config, tmp_path):
    out = tmp_path / "flight.mp4"
    render(config, out, "--interpolate", "--frames", 5, "--size", 65, 49, "--side-by-side", "--fps", 10)
    said = probe(out)
    assert "h264" in said and "yuv420p" in said and "130x48" in said and "10 fps" in said
    assert [p.name for p in tmp_path.iterdir()] == ["flight.mp4"]
    head = out.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays before it is loaded


@pytest.mark.slow
def test_a_flight_follows_the_capture_and_says_how_much_of_it(config, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("ag2_ns.rendering.video.picture", lambda g, s, view, *a: seen.append(view) or [BLACK, BLACK])
    render(config, tmp_path / "f", "--frames", 120)
    eyes = torch.stack([-v.viewmat[:3, :3].T @ v.viewmat[:3, 3] for v in seen])
    away = eyes[:, :2].norm(dim=1)
    assert len(seen) == 120 and float(away.min()) > 0.95 * RING, "straight lines between the held-out views cut through"
    assert "along" not in capsys.readouterr().out
    render(config, tmp_path / "g", "--frames", 30)
    said = capsys.readouterr().out
    assert "of the capture; --frames" in said and "for all of it" in said


def test_the_data_sets_own_cameras(config, tmp_path):
    render(config, tmp_path / "d", "--dataset", "test", "--text", "plate")
    names = sorted(p.name for p in (tmp_path / "d").iterdir())
    assert names == ["view_00.png", "view_03.png", "view_06.png"]
    assert frames(tmp_path / "d")[0].shape == (48, 64, 3)


def test_a_camera_path_from_the_viewer(config, tmp_path):
    path = tmp_path / "path.json"
    cameras = [{"camera_to_world": ring_pose(k).flatten().tolist(), "fov": 50, "aspect": 1.5} for k in range(3)]
    content = {"render_width": 60, "render_height": 40, "camera_path": cameras, "seconds": 1.5}
    path.write_text(json.dumps(content))
    render(config, tmp_path / "p.mp4", "--camera-path", path)
    assert "60x40" in probe(tmp_path / "p.mp4") and "2 fps" in probe(tmp_path / "p.mp4")
    path.write_text(json.dumps({**content, "camera_type": "equirectangular"}))
    with pytest.raises(SystemExit):
        render(config, tmp_path / "q.mp4", "--camera-path", path)


def test_the_environments_query_is_marked(config, tmp_path, monkeypatch):
    monkeypatch.setenv("AG2_QUERY", "green ball")
    render(config, tmp_path / "g", "--frames", 2)
    assert near(frames(tmp_path / "g")[0], COLORS[0]) > 10


@pytest.mark.parametrize(
    "options, message",
    [
        (["--orbit"], "nothing to circle"),
        (["--orbit", "--interpolate"], "give one of"),
        (["--text", ""], "empty"),
        (["--text", "walrus"], "nothing here is called that"),
        (["--level", "3"], "--level"),
        (["--frames", "0"], "above 0"),
        (["--camera-path", "nowhere.json"], "no such file"),
        (["--selection", "nowhere.npz"], "no such file"),
    ],
)
def test_what_makes_no_sense_is_one_line(config, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        render(config, tmp_path / "x.mp4", *options)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not (tmp_path / "x.mp4").exists()


def test_places_that_cannot_be_written(config, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file" / "a.mp4", tmp_path / "file" / "frames", tmp_path / f"{'long' * 62}.mp4"):
        with pytest.raises(SystemExit):
            render(config, out, "--interpolate", "--frames", 2)
        assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        render(config, tmp_path / "a.avi", "--interpolate")
    assert ".mp4" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(48, 32), (24, 64), (96, 128)])
def test_a_video_of_views_of_several_sizes_is_refused(size, tmp_path):
    with pytest.raises(UserError, match="differ in size"), frame_writer(tmp_path / "v.mp4", 24) as write:
        write(np.zeros((48, 64, 3), np.uint8))
        write(np.zeros((*size, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_frames_of_a_longer_rendering_do_not_stay_and_other_pictures_do(tmp_path):
    black = np.zeros((4, 6, 3), np.uint8)
    for name in ("00007.png", "mine.png"):
        Image.fromarray(black).save(tmp_path / name)
    (tmp_path / "damaged.png").write_text("no picture")
    for names in ([None] * 5, ["view_1", "left/view_2"], [None] * 3):
        with frame_writer(tmp_path, 24) as write:
            for name in names:
                write(black, name)
    left = {"00000.png", "00001.png", "00002.png", "00007.png", "view_1.png", "mine.png", "damaged.png", "left"}
    assert {p.name for p in tmp_path.iterdir()} == left


def test_a_rendering_that_fails_removes_nothing(tmp_path):
    black = np.zeros((4, 6, 3), np.uint8)
    with frame_writer(tmp_path, 24) as write:
        for _ in range(3):
            write(black)
    with pytest.raises(ZeroDivisionError), frame_writer(tmp_path, 24) as write:
        write(black)
        1 / 0  # noqa: B018
    assert len(list(tmp_path.iterdir())) == 3


def test_numbered_frames_leave_named_ones_alone(tmp_path):
    frame = np.zeros((4, 6, 3), np.uint8)

    def write_frames(*names):
        with frame_writer(tmp_path, 24) as write:
            for name in names:
                write(frame, name)
        return sorted(path.name for path in tmp_path.iterdir())

    assert write_frames("frame_0001", "frame_0008") == ["frame_0001.png", "frame_0008.png"]
    assert len(write_frames(None, None, None)) == 5
    assert write_frames(None) == ["00000.png", "frame_0001.png", "frame_0008.png"]
    assert len(write_frames("frame_0001")) == 3


def test_frames_may_be_named_with_folders(tmp_path):
    with frame_writer(tmp_path / "frames", 24) as write:
        write(np.zeros((4, 6, 3), np.uint8), "left/shot 1")
    assert (tmp_path / "frames/left/shot 1.png").is_file()


def test_long_labels_stay_inside_the_picture():
    image = np.full((60, 80, 3), 100, np.uint8)
    out = draw_legend(image, [("a very long label that fits into no small picture", COLORS[0]), ("b", COLORS[1])])
    assert out.shape == image.shape and (out[:, -3:] == 100).all()
    assert near(out.astype(int), COLORS[0], 5) and near(out.astype(int), COLORS[1], 5)
    assert draw_legend(image, []) is image


@pytest.mark.slow
@pytest.mark.parametrize("way", ["interpolate", "camera-path"])
def test_nerfstudios_own_renderer_marks_the_query(config, tmp_path, monkeypatch, way):
    from nerfstudio.scripts import render as ns

    monkeypatch.setenv("AG2_QUERY", "red ball")
    names = ["rgb", "selection_overlay", "relevancy", "instance"]
    shared = {"load_config": config, "rendered_output_names": names, "output_path": tmp_path / "v.mp4"}
    shared |= {"output_format": "images", "image_format": "png"}
    if way == "interpolate":
        ns.RenderInterpolated(**shared, interpolation_steps=2).main()
    else:
        path = tmp_path / "path.json"
        camera = {"camera_to_world": ring_pose(0).flatten().tolist(), "fov": 50, "aspect": 4 / 3}
        content = {"render_width": 64, "render_height": 48, "camera_path": [camera] * 2, "seconds": 1}
        path.write_text(json.dumps(content))
        ns.RenderCameraPath(**shared, camera_path_filename=path).main()
    first = frames(tmp_path / "v")[0]
    assert first.shape == (48, 4 * 64, 3)
    assert near(first[:, 64:128], COLORS[0], 60) > 5


@pytest.mark.slow
def test_nerfstudios_data_set_renderer_writes_every_output(config, tmp_path, monkeypatch):
    from nerfstudio.scripts import render as ns

    monkeypatch.setenv("AG2_QUERY", "red ball")
    ns.DatasetRender(load_config=config, output_path=tmp_path, split="test").main()
    kinds = {p.name for p in (tmp_path / "test").iterdir()}
    assert kinds >= {"rgb", "feature", "instance", "depth", "relevancy", "selection", "selection_overlay", "gt-rgb"}
