"""Read what `ag2 export --format grasp` wrote and hand it to ROS: poses, collision objects and a cloud with normals.

    ag2 export --load-config RUN --text "red mug" --format grasp --metres-per-unit 0.42 --output-dir mug
    python examples/8_grasp_ros.py mug

Shows the poses at which a gripper takes the thing, what is in its way, and its surface.

Writes nothing: with ROS 2 (rclpy, moveit_msgs, sensor_msgs) on the path the messages are published once on /ag2/...;
without it they are printed, so the files can be looked at anywhere. Only numpy and plyfile are needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from plyfile import PlyData


def read(folder: Path) -> dict:
    """grasp.json, with the surface of every thing beside it."""
    content = json.loads((folder / "grasp.json").read_text())
    if content.get("format") != "ag2-grasp":
        raise SystemExit(f"{folder / 'grasp.json'}: not written by `ag2 export --format grasp`")
    for thing in content["things"]:
        vertex = PlyData.read(str(folder / thing["surface"]))["vertex"].data
        thing["points"] = np.stack([vertex[n] for n in ("x", "y", "z")], 1)
        thing["normals"] = np.stack([vertex[n] for n in ("nx", "ny", "nz")], 1)
    return content


def xyz(values) -> dict:
    return dict(zip("xyz", map(float, values)))


def pose(thing: dict) -> dict:
    """geometry_msgs/Pose of the upright box: z up, x along its longer side."""
    return {
        "position": xyz(thing["pose"]["position"]),
        "orientation": dict(zip("xyzw", map(float, thing["pose"]["orientation"]))),
    }


def collision_object(thing: dict, frame: str) -> dict:
    """moveit_msgs/CollisionObject: the box, and the hull as a mesh."""
    hull = thing["hull"]
    return {
        "header": {"frame_id": frame},
        "id": f"{thing['instance']} {thing['label'] or 'thing'}",
        "primitives": [{"type": 1, "dimensions": thing["size"]}],
        "primitive_poses": [pose(thing)],
        "meshes": [
            {
                "vertices": [xyz(v) for v in hull["vertices"]],
                "triangles": [{"vertex_indices": face} for face in hull["faces"]],
            }
        ],
        "mesh_poses": [{"position": xyz((0, 0, 0)), "orientation": dict(zip("xyzw", (0.0, 0.0, 0.0, 1.0)))}],
        "operation": 0,
    }


def cloud(thing: dict) -> tuple[list[str], bytes]:
    """Fields and data of a sensor_msgs/PointCloud2 of float32, relative to the pose's position (doubles stay exact)."""
    points = thing["points"] - np.array(thing["pose"]["position"])
    table = np.hstack([points, thing["normals"]]).astype("<f4")
    return ["x", "y", "z", "normal_x", "normal_y", "normal_z"], table.tobytes()


def widest_opening(thing: dict) -> float:
    """How far a gripper must open to take the thing across its shorter side from above."""
    return float(min(thing["size"][:2]))


def publish(content: dict, frame: str) -> None:
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from moveit_msgs.msg import CollisionObject
    from rosidl_runtime_py import set_message_fields
    from sensor_msgs.msg import PointCloud2, PointField

    rclpy.init()
    node = rclpy.create_node("ag2_grasp")
    poses, objects = (
        node.create_publisher(PoseStamped, "/ag2/pose", 10),
        node.create_publisher(CollisionObject, "/collision_object", 10),
    )
    clouds = node.create_publisher(PointCloud2, "/ag2/surface", 10)
    for thing in content["things"]:
        placed = PoseStamped()
        set_message_fields(placed, {"header": {"frame_id": frame}, "pose": pose(thing)})
        poses.publish(placed)
        obstacle = CollisionObject()
        made = collision_object(thing, frame)
        made["operation"] = CollisionObject.ADD
        set_message_fields(obstacle, made)
        objects.publish(obstacle)
        fields, data = cloud(thing)
        message = PointCloud2(height=1, width=len(thing["points"]), point_step=24, row_step=len(data), is_dense=True)
        message.header.frame_id = frame
        message.fields = [PointField(name=n, offset=4 * k, datatype=7, count=1) for k, n in enumerate(fields)]
        message.data = data
        clouds.publish(message)
    node.get_logger().info(f"published {len(content['things'])} things in frame {frame}")
    node.destroy_node()
    rclpy.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frame-id", default="map", help="tf frame that the capture's world is called in ROS")
    options = parser.parse_args()
    content = read(options.folder)
    print(f"# frame {content['frame']}, {content['units']}, up {content['up']}", file=sys.stderr)
    try:
        publish(content, options.frame_id)
    except ImportError:
        for thing in content["things"]:
            fields, data = cloud(thing)
            shown = {
                "thing": thing["label"],
                "pose": {"header": {"frame_id": options.frame_id}, "pose": pose(thing)},
                "opening": widest_opening(thing),
                "cloud": {"fields": fields, "width": len(thing["points"]), "bytes": len(data)},
                "collision_object": {
                    "hull_faces": len(collision_object(thing, options.frame_id)["meshes"][0]["triangles"])
                },
            }
            print(json.dumps(shown, indent=1))
            print("---")


if __name__ == "__main__":
    main()
