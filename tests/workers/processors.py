"""What the processor that runs the tests can do."""

from workers.compute.environment import INT8_FLAGS, environment

# An x86 processor without VNNI keeps sums of two 8-bit products in 16 bits, which they exceed unless weights have 7.
SATURATES = not INT8_FLAGS & set(environment(1, "cpu").cpu_flags)
