// Package store is durable local state, on Badger.
package store
