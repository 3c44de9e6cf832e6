// Package prune keeps a folder of folders within a budget, oldest out first.
//
// Usage: what a driver keeps of the past (logs of tasks that ended, compiled
// code) lies in one folder each below a root; after adding one, the driver
// calls Folders.
//
// Concurrency: calls for one root may overlap; each deletes what it finds.
package prune
