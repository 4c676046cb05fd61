// Command damask-cni-install makes a node's container runtime use Damask: it puts the
// CNI plugin in its place, and once the agent is ready, the CNI configuration.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/nodeagent/cniinstall"
)

func main() {
	var i cniinstall.Install
	flag.StringVar(&i.Plugin, "plugin", "/usr/bin/damask-cni", "the plugin's `program`")
	flag.StringVar(&i.Plugins, "plugins", "/opt/cni/bin", "`directory` of the runtime's plugins")
	flag.StringVar(&i.Configuration, "configuration", "/etc/cni/net.d/10-damask.conflist", "`file` that the runtime reads")
	flag.StringVar(&i.Ready, "ready", "", "`URL` that answers 200 when the node is ready; without it only the plugin is installed")
	flag.Func("alias", "`name` of another plugin that the plugin takes too, once the node is ready; may be given several times", func(name string) error {
		i.Aliases = append(i.Aliases, name)
		return nil
	})
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *version {
		fmt.Println("damask-cni-install", daemon.Version())
		return
	}
	if err := i.Check(); err != nil {
		fmt.Fprintln(os.Stderr, "damask-cni-install:", err)
		os.Exit(daemon.ExitUsage)
	}
	if err := run(i); err != nil {
		fmt.Fprintln(os.Stderr, "damask-cni-install:", err)
		os.Exit(daemon.ExitError)
	}
}

// run installs. With a configuration it stays until it is stopped, as containers of a
// DaemonSet do.
func run(i cniinstall.Install) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := hclog.New(&hclog.LoggerOptions{Name: "damask-cni-install", Output: os.Stderr})
	if err := i.InstallPlugin(log); err != nil || i.Ready == "" {
		return err
	}
	if err := i.Configure(ctx, log); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
