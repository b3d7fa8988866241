"""What is asked of the C library, and of which."""

import platform
import resource
import subprocess
import sys

import pytest

from featlight.engine import device

LOOP = """
import resource, sys, torch
from featlight.engine.device import keep_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_memory() and keep_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
x = torch.zeros(48 << 20, dtype=torch.uint8)
for _ in range(3): y = x + 1; del y
before = faults()
for _ in range(10): y = x + 1; del y
print(faults() - before)
"""


@pytest.fixture(autouse=True)
def anew():
    device.keep_memory.cache_clear()
    yield
    device.keep_memory.cache_clear()


def faults_of(word):
    done = subprocess.run([sys.executable, "-c", LOOP, word], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has it")
def test_freed_blocks_are_not_fetched_from_the_kernel_again():
    pages = (48 << 20) // resource.getpagesize()
    left = faults_of("leave")
    assert left > 5 * pages
    assert faults_of("keep") < left / 3  # the heap may grow by a block or two, where a small one lies in its way


@pytest.mark.parametrize("name", device.VARIABLES)
def test_a_users_own_setting_stands(name, monkeypatch):
    monkeypatch.setenv(name, "131072")
    assert not device.keep_memory()


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not device.keep_memory()
