// The program of the conformance suite, for an image with nothing beside it.
package main

import "github.com/hansa-mesh/hansa/node/driver/drivertest"

func main() { drivertest.GuestMain() }
