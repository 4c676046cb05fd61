package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"damask": func() { os.Exit(execute(nil, os.Args[1:])) }})
}

// execute is damask with the operator's commands alone.
func execute(connect Connector, args []string) int {
	root := &cobra.Command{Use: "damask", SilenceErrors: true, SilenceUsage: true}
	AddCommands(root, connect)
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "damask:", err)
		return 1
	}
	return 0
}

// TestScripts runs each script of testdata against a cluster of its own. In a
// script, damask is the command, $CLUSTER the file for --config and $BARE the same
// without egress, "pod" reports a pod as an agent would, "network" a node's network,
// "gave-up" lets a node give up the egress IPs that it should, "lag" lets a node lag
// behind, and "off" ends an agent.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	binaries := buildServices(t)
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			l := startLive(t, binaries)
			testscript.Run(t, testscript.Params{
				Files: []string{script},
				Setup: func(env *testscript.Env) error {
					env.Setenv("CLUSTER", l.file(l.cluster))
					bare := l.cluster
					bare.Egress = nil
					env.Setenv("BARE", l.file(bare))
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"pod": func(ts *testscript.TestScript, _ bool, args []string) {
						if len(args) < 4 {
							ts.Fatalf("usage: pod NODE NAMESPACE NAME IP [LABEL=VALUE...]")
						}
						l.registerPod(args[0], args[1], args[2], args[3], args[4:]...)
					},
					"network": func(ts *testscript.TestScript, _ bool, args []string) {
						if len(args) != 2 {
							ts.Fatalf("usage: network NODE ADDRESS/BITS")
						}
						l.reportNetwork(args[0], args[1])
					},
					"gave-up": func(ts *testscript.TestScript, _ bool, args []string) {
						if len(args) != 1 {
							ts.Fatalf("usage: gave-up NODE")
						}
						l.obey(args[0])
					},
					"off": func(ts *testscript.TestScript, _ bool, args []string) {
						if len(args) != 1 {
							ts.Fatalf("usage: off NODE")
						}
						l.agents[args[0]].stop()
					},
					"lag": func(ts *testscript.TestScript, _ bool, args []string) {
						if len(args) != 4 {
							ts.Fatalf("usage: lag NODE KIND NAME WHY")
						}
						a := l.agents[args[0]]
						a.mu.Lock()
						defer a.mu.Unlock()
						a.lagging[args[1]+" "+args[2]] = args[3]
					},
				},
			})
		})
	}
}
