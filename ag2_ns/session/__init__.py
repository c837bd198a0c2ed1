"""One scene as a person works on it; knows neither viser nor nerfstudio."""
