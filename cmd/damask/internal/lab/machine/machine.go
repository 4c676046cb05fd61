// Package machine is the hardware of a lab's node and the system software on it.
//
// It owns the node's first process, its cable, its disk, and its Open vSwitch and
// what carries the node IP. It promises that Cut ends everything on
// the node at once, and that PowerOn finds the disk as it was. It must not know
// about Damask: the node agent is one more daemon for it.
package machine

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

// Config describes a machine.
type Config struct {
	// Name is its host name.
	Name string
	// IP is its address on the underlay.
	IP netip.Addr
	// Gateway is its default gateway.
	Gateway netip.Addr
	// Plug is the name of the other end of its cable, unique in the lab.
	Plug string
	// Disk is the directory that outlives a power failure.
	Disk string
	// Logs is the directory of its processes' logs.
	Logs string
	// Datapath is how its Open vSwitch forwards.
	Datapath datapath.Datapath
	// Init starts the first process: this program with the right arguments.
	Init []string
}

// Machine is one node's machine.
type Machine struct {
	// Database is ovsdb-server.
	Database *process.Daemon
	// Switch is ovs-vswitchd.
	Switch *process.Daemon

	config  Config
	reaper  *process.Reaper
	network *underlay.Network

	mu        sync.Mutex
	init      *process.Child
	unplugged bool
}

// New describes a machine that is off.
func New(config Config, reaper *process.Reaper, network *underlay.Network) *Machine {
	daemon := func(name string) *process.Daemon {
		return process.NewDaemon(reaper, name, filepath.Join(config.Logs, config.Name+"."+name+".log"))
	}
	return &Machine{
		Database: daemon("ovsdb-server"),
		Switch:   daemon("ovs-vswitchd"),
		config:   config,
		reaper:   reaper,
		network:  network,
	}
}

// PID is the machine's first process, as the host sees it; 0 when it is off.
func (m *Machine) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.init == nil {
		return 0
	}
	return m.init.PID()
}

// ErrOff is what needs a machine that is on.
var ErrOff = errors.New("the node is off")

// Namespaces are the machine's, or ErrOff.
func (m *Machine) Namespaces() (enter.Namespaces, error) {
	pid := m.PID()
	if pid == 0 {
		return enter.Namespaces{}, ErrOff
	}
	return enter.Process(pid), nil
}

// Disk is a path on the machine's disk, the same on the host and on the machine.
func (m *Machine) Disk(parts ...string) string {
	return filepath.Join(append([]string{m.config.Disk}, parts...)...)
}

// ID is the machine's identity: written on the disk when it is first asked for.
func (m *Machine) ID() (string, error) {
	path := m.Disk("machine-id")
	if text, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	text := hex.EncodeToString(id[:])
	if err := os.MkdirAll(m.config.Disk, 0o755); err != nil {
		return "", err
	}
	return text, os.WriteFile(path, []byte(text+"\n"), 0o644)
}

// PowerOn starts the machine's first process and plugs the cable in. Nothing else
// runs yet. It is no error when the machine is on.
func (m *Machine) PowerOn(ctx context.Context) error {
	if m.PID() != 0 {
		return nil
	}
	if err := os.MkdirAll(m.config.Disk, 0o755); err != nil {
		return err
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(m.config.Init[0], m.config.Init[1:]...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	child, err := m.reaper.Start(enter.Namespaces{}, cmd)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("power %s on: %w", m.config.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = child.Signal(unix.SIGKILL) })
	defer stop()
	line, err := bufio.NewReader(ready).ReadString('\n')
	if line = strings.TrimSpace(line); line != "ok" {
		_ = child.Signal(unix.SIGKILL)
		return fmt.Errorf("power %s on: %w", m.config.Name, errors.Join(errors.New(line), err, ctx.Err()))
	}
	if err := m.network.Plug(enter.Process(child.PID()).Net, m.config.Plug, m.config.IP); err != nil {
		_ = child.Signal(unix.SIGKILL)
		return err
	}
	m.mu.Lock()
	m.init, m.unplugged = child, false
	m.mu.Unlock()
	go m.watch(child)
	return nil
}

// watch notes that the machine went off, however that came.
func (m *Machine) watch(child *process.Child) {
	<-child.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.init == child {
		m.init = nil
	}
}

// Cut is a power failure: it returns when nothing of the machine runs any more.
// The given daemons, besides the machine's own, are told that their end was asked
// for.
func (m *Machine) Cut(daemons ...*process.Daemon) error {
	m.mu.Lock()
	child := m.init
	m.mu.Unlock()
	if child == nil {
		return ErrOff
	}
	daemons = append(daemons, m.Database, m.Switch)
	for _, d := range daemons {
		d.Expect()
	}
	if err := child.Signal(unix.SIGKILL); err != nil {
		return err
	}
	<-child.Done()
	for _, d := range daemons {
		if ended := d.Ended(); ended != nil {
			<-ended
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init = nil
	return nil
}

// SetPlugged puts the cable in, or pulls it out. ErrOff while the machine is off, which
// has the cable in when it is on again.
func (m *Machine) SetPlugged(plugged bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.init == nil {
		return ErrOff
	}
	if err := m.network.SetPlugged(m.config.Plug, plugged); err != nil {
		return err
	}
	m.unplugged = !plugged
	return nil
}

// Unplugged tells whether the cable is out.
func (m *Machine) Unplugged() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.init != nil && m.unplugged
}

// Run runs a program on the machine and returns its output.
func (m *Machine) Run(ctx context.Context, program string, args ...string) (string, error) {
	return m.feed(ctx, "", program, args...)
}

func (m *Machine) feed(ctx context.Context, input, program string, args ...string) (string, error) {
	ns, err := m.Namespaces()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(program, args...)
	output, err := m.reaper.Output(ctx, ns, cmd, []byte(input))
	return strings.TrimSpace(string(output)), err
}
