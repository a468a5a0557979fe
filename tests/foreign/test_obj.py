import numpy as np
import pytest

from drig.errors import DrigError
from drig.foreign.obj import read_obj
from tests.foreign.crafted import Write

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nvt 1 1\n"


def test_a_mesh(write: Write) -> None:
    mesh = read_obj(write("head.obj", f"# head\n{TRIANGLE}vn 0 0 1\nf 1/4/1 2/2/1 3/1/1\ns off\n".encode()))
    assert mesh.vertices == 3
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])
    np.testing.assert_array_equal(mesh.uv_faces, [[3, 1, 0]])
    np.testing.assert_array_equal(mesh.uvs, [[0, 0], [1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("f 1/1 2/2 4/3", "points"),
        ("f 1/1 2/2 3/5", "UVs"),
        ("f 0/1 2/2 3/3", "points"),
        ("f 1/1 2/2 -1/3", "points"),
        ("f 1 2 3", "no triangle"),
        ("f 1/1 2/2 3/3 1/4", "no triangle"),
        ("f 1//1 2//1 3//1", "damaged"),
        ("vt nan 0\nf 1/1 2/2 3/3", "no numbers"),
        ("", "points"),
    ],
)
def test_other_meshes_are_refused(line: str, message: str, write: Write) -> None:
    with pytest.raises(DrigError, match=message):
        read_obj(write("head.obj", f"{TRIANGLE}{line}\n".encode()))
