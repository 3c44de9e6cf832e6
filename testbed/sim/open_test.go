package sim

// open is seeds that show something which is not put right yet, and what. They
// are left out of TestSim, and replayed with -sim.seed; the list is to be empty.
var open = map[uint64]string{}
