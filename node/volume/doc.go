// Package volume keeps the folders that slots find again: one for each volume of
// each slot, which outlives the slot's allocations here.
//
// # Usage
//
// New says where; Folder makes those of a slot before it starts, Found lists what
// lies there after a start of the daemon, Drop deletes. The core decides about
// their lives (placement/volumes.go); what is here follows it.
//
//	DIR/<uid>/<component>.<slot>/volume.json   whose it is
//	DIR/<uid>/<component>.<slot>/data/<name>/  what the slot finds
//
// # Invariants
//
// A folder names its slot itself, so that a store that was lost loses no data.
// The names of others never become paths: a UID is made safe first, components
// and volumes are names that validation passed. What is being deleted is renamed
// first, and is not found again after a crash.
//
// Sizes are what a host reserves; a folder can grow beyond its size, which Used
// shows. A volume of a virtual machine is a disk of its size.
package volume
