// Package proxybench measures the two service engines beside one another.
//
// It owns the benchmarks that make bench prints: the same services on the same
// machine in the same run, step by step in turns, so that a ratio of two engines
// means something on any machine. It promises to look at the engines from outside
// only. What an engine costs by itself is measured beside its own code.
package proxybench
