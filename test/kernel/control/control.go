// Package control is what the host and the virtual machine say to one another.
//
// It owns the messages on the machine's control port and the names of its ports.
// It promises one JSON object a line, in both directions. It must not know how
// either end is made.
package control

// The names of the machine's serial ports, as it finds them in
// /sys/class/virtio-ports.
const (
	// Port carries this package's messages.
	Port = "damask.control"
	// OutputPort carries what the command prints, as it is.
	OutputPort = "damask.output"
)

// RootTag is the tag of the host's root, which it lends to the machine by 9p,
// read-only.
const RootTag = "root"

// Job is the host's first message: what to run.
type Job struct {
	// Hide are absolute paths of the host that the machine is not to see.
	Hide []string `json:"hide"`
	// Dir is the command's working directory.
	Dir string `json:"dir"`
	// Env is the command's whole environment, KEY=VALUE.
	Env []string `json:"env"`
	// Args are the command and its arguments. The command is looked up in the PATH of
	// Env.
	Args []string `json:"args"`
}

// Request is every later message of the host.
type Request struct {
	// Diagnose asks the machine to print what its processes are doing, and to end the
	// command with SIGQUIT.
	Diagnose bool `json:"diagnose"`
}

// Report is a message of the machine. Exactly one field is set.
type Report struct {
	// Booted is the machine's clock in seconds when the command starts.
	Booted float64 `json:"booted,omitempty"`
	// Ended is how the command ended, the last message.
	Ended *Ending `json:"ended,omitempty"`
	// Failed is why the command could not be run, the last message.
	Failed string `json:"failed,omitempty"`
}

// Ending is the end of the command.
type Ending struct {
	// Code is the exit code; 128 and the signal's number after a signal.
	Code int `json:"code"`
	// Clock is the machine's clock in seconds.
	Clock float64 `json:"clock"`
	// MemoryFree is what the machine has available, in KiB (/proc/meminfo), so that
	// its size can be chosen.
	MemoryFree uint64 `json:"memoryFree"`
}
