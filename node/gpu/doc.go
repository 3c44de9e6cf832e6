// Package gpu finds the GPUs of this machine.
//
// NVIDIA's driver lists them below /proc/driver/nvidia/gpus; nvidia-smi, where it
// is installed, adds their memory. Others an operator names: Named makes devices
// of a model and a number. Find is bounded in time, and a tool that hangs or fails
// costs what only it knows.
package gpu
