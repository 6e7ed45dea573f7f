"""Test that a back end satisfies the op contract: rules, test cases and a specification per op."""
