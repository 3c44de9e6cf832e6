// Package usage is what this process has taken of the machine, for measurements that
// run in it: CPU, which a busy machine does not change much, and memory.
package usage
