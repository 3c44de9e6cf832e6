// Package table is a replicated observed-remove map.
package table
