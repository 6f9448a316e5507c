"""Preparing on many machines that share a folder, by datatrove's executors; modules here import what extras install."""
