"""The table-top example scene: ray-traced objects with exact ground truth and simulated masks, features and points."""
