"""What is asked of the C library, and of which."""

import platform
import resource
import subprocess
import sys

import pytest

from featlight.engine import device

LOOP = """
import resource, sys, torch
from featlight.engine import device
torch.set_num_threads(1)
if sys.argv[1] != "leave":
    set_memory = getattr(device, sys.argv[1] + "_memory")
    assert set_memory() and set_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
x = torch.zeros(int(sys.argv[2]), dtype=torch.uint8)
for _ in range(3): y = x + 1; del y
before = faults()
for _ in range(10): y = x + 1; del y
print(faults() - before)
"""


def faults_of(word, size=48 << 20):
    done = subprocess.run([sys.executable, "-c", LOOP, word, str(size)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has it")
def test_freed_blocks_are_not_fetched_from_the_kernel_again():
    pages = (48 << 20) // resource.getpagesize()
    left = faults_of("leave")
    assert left > 5 * pages
    assert faults_of("keep") < left / 3  # the heap may grow by a block or two, where a small one lies in its way


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has it")
def test_freed_blocks_are_returned_to_the_kernel():
    """The C library alone keeps blocks of this size once one of them is freed."""
    pages = (8 << 20) // resource.getpagesize()
    assert faults_of("leave", 8 << 20) < 5 * pages
    assert faults_of("return", 8 << 20) > 9 * pages


@pytest.mark.parametrize("name", device.VARIABLES)
def test_a_users_own_setting_stands(name, monkeypatch):
    monkeypatch.setenv(name, "131072")
    assert not device.keep_memory()
    assert not device.return_memory()


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not device.keep_memory()
    assert not device.return_memory()
