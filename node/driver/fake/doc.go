// Package fake is a driver of every kind that runs its tasks as goroutines: a
// small real implementation for tests of what stands on drivers, without
// processes, compilers or disks.
//
// # Usage
//
// What runs belongs to a World, which stands for the machine; a driver is one
// daemon's view of it. Discard the driver, make another one over the same
// World, and the tasks are found again, as real ones are. A process's command
// is looked up in World.Programs, then among the built-in ones (see
// programs.go); any other command runs until it is stopped. A function answers
// with a JSON account of the call.
//
//	world := fake.NewWorld()
//	d := fake.New(fake.Config{World: world, Events: onEvent})
//	world.Exit("claim/0", 3)                    // a crash
//	world.OnStart(func(driver.Task) error {…})  // a delay, or a failure
//
// Fences are the World's, as those of processes are the machine's: they hold
// with no driver about. Their clock begins when the World was made, and is
// virtual where that was in a synctest bubble.
//
// # Concurrency
//
// Everything is safe for concurrent use. Works inside a synctest bubble.
package fake
