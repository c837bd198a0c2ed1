"""A furnished room to walk through: things of very different size on shelves, tables and the floor."""

from ag2_ns.synthetic.room.generate import generate_room, room

__all__ = ["generate_room", "room"]
