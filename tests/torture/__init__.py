"""A kit of failures for programs that write files, and what minise must survive.

The kit does not import minise. It needs only the standard library, and disks.py needs pytest to
skip tests:

- calls.py: observe every file call of this process, and let a handler change its outcome
- failing_files.py: let each call of an action fail in turn, by each error, before, in or after it
- crash.py: power failures after each call: unflushed data is lost, torn or reordered
- kill.py: kill a command at an instant, a file call or a function call, and start it again
- disks.py: full, small, read-only and immutable targets, limits on the size of files
- clocks.py: clocks that jump, stop or go backwards

test_kit.py plants mistakes that the kit must notice. The other tests are of minise; runs.py and
own_run.py are their small training runs.
"""
