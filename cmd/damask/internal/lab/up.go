package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/apiserver"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/preflight"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/progress"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/statedir"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/topology"
)

func (c *commands) upCommand() *cobra.Command {
	var file, wish string
	var nodes int
	command := &cobra.Command{
		Use:   "up [-f topology.yaml | --nodes 3]",
		Short: "Start a lab and wait until it is ready",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			command.SilenceUsage = true
			return c.up(command.Context(), command.OutOrStdout(), file, nodes, wish)
		},
	}
	command.Flags().StringVarP(&file, "file", "f", "", "the topology; examples/ has some")
	command.Flags().IntVar(&nodes, "nodes", 3, "how many nodes, when there is no topology")
	command.Flags().StringVar(&wish, "datapath", "", "system (the kernel's module), netdev (userspace) or auto; in place of what the topology says")
	command.MarkFlagsMutuallyExclusive("file", "nodes")
	return command
}

func (c *commands) up(ctx context.Context, out io.Writer, file string, nodes int, wish string) error {
	begin := time.Now()
	programs, err := binaries()
	if err != nil {
		return err
	}
	if err := preflight.Check(programs); err != nil {
		return err
	}
	text, plan, err := readTopology(file, nodes)
	if err != nil {
		return err
	}
	// The supervisor reads them again: this is to fail before there is a lab.
	if _, err := apiserver.ReadAll(plan.Kubeconfigs()); err != nil {
		return err
	}
	how, err := datapath.Of(cmp.Or(wish, plan.Datapath))
	if err != nil {
		return err
	}
	dir, err := statedir.Of(c.name)
	if err != nil {
		return err
	}
	lock, stale, err := dir.Create()
	if errors.Is(err, statedir.ErrRunning) {
		return fmt.Errorf("lab %q is up already: `damask lab down --name %s` stops it", c.name, c.name)
	}
	if err != nil {
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	defer lock.Close()
	if stale {
		fmt.Fprintf(out, "removed what a crashed lab %q had left in %s\n", c.name, dir)
	}
	if err := os.WriteFile(dir.Topology(), text, 0o644); err != nil {
		return errors.Join(err, dir.Remove())
	}
	supervisor, err := startSupervisor(dir, programs, how.Name, lock)
	if err != nil {
		return errors.Join(err, dir.Remove())
	}
	if err := supervisor.await(ctx, func(words string) { fmt.Fprintf(out, "  %s\n", words) }); err != nil {
		return errors.Join(err, supervisor.end(), dir.Remove())
	}
	fmt.Fprintf(out, "lab %q is up after %.1f s; `damask lab status --name %s` tells what is in it\n", c.name, time.Since(begin).Seconds(), c.name)
	return nil
}

// readTopology reads and checks the topology. The supervisor reads the same text
// again.
func readTopology(file string, nodes int) ([]byte, *topology.Topology, error) {
	text, err := topology.Plain(nodes)
	if file != "" {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, nil, err
	}
	plan, err := topology.Parse(file, text)
	return text, plan, err
}

// supervisorProcess is a supervisor that starts.
type supervisorProcess struct {
	cmd  *exec.Cmd
	says *os.File
}

// startSupervisor starts the first process of the lab, detached from the terminal.
func startSupervisor(dir statedir.Dir, programs, how string, lock *os.File) (*supervisorProcess, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "progress"), os.NewFile(uintptr(ends[1]), "progress")
	defer theirs.Close()
	if err := os.MkdirAll(dir.Path("logs"), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(dir.Log("supervisor"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer network.Close()
	cmd := exec.Command("/proc/self/exe", "lab-supervisor", dir.Name(), programs, how)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, lock, network} // progress.File, supervisor.Lock and supervisor.HostNet
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		if errors.Is(err, unix.EPERM) {
			return nil, errors.New("this machine does not let root make namespaces: is this a container without CAP_SYS_ADMIN?")
		}
		return nil, fmt.Errorf("start the lab's supervisor: %w", err)
	}
	p := &supervisorProcess{cmd: cmd, says: ours}
	if err := dir.WritePID(lock, cmd.Process.Pid); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

// await passes on what the supervisor says until the lab is ready, or until
// somebody interrupts.
func (p *supervisorProcess) await(ctx context.Context, say func(string)) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	result := make(chan error, 1)
	go func() { result <- progress.Listen(p.says, say) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return errors.New("interrupted: the lab is taken down again")
	}
}

// end kills the supervisor, and with it everything in the lab.
func (p *supervisorProcess) end() error {
	p.says.Close()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = p.cmd.Wait() // killed: that it did not end well is no news
	return nil
}
