"""`atomsml models` and `atomsml fetch`: which models there are, and how published ones come to this machine."""
