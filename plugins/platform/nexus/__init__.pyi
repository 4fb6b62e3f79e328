# Written by `make generate`.

from nexus_core import *
