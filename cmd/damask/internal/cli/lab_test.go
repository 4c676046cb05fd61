package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// labs is a connector with one lab, whose services nobody runs.
type labs struct{ cluster Cluster }

func (l labs) Lab(_ context.Context, name string) (Cluster, error) {
	if name != "blue" {
		return Cluster{}, fmt.Errorf("there is no lab %q", name)
	}
	return l.cluster, nil
}

func runHere(connect Connector, args ...string) (string, error) {
	root := &cobra.Command{Use: "damask", SilenceErrors: true, SilenceUsage: true}
	AddCommands(root, connect)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

func TestTheLabOfTheFlagIsMeant(t *testing.T) {
	for args, want := range map[string]string{
		"get netnamespaces":             `there is no lab "lab1"`,
		"get netnamespaces --lab green": `there is no lab "green"`,
		"mode get --lab green":          `there is no lab "green"`,
	} {
		if _, err := runHere(labs{}, strings.Fields(args)...); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	if _, err := runHere(nil, "mode", "get"); err == nil || !contains(err.Error(), "--config") {
		t.Errorf("without labs: %v", err)
	}
}

func TestServicesThatAreAwayAreSaidSoInOneSentence(t *testing.T) {
	l := newLive(t)
	l.cluster.IPAM, l.cluster.Tenancy = []string{freeAddress(t)}, []string{freeAddress(t)}
	for _, args := range []string{
		"get hostsubnets", "get netnamespaces", "mode get", "flows node1", "pod-network isolate-projects shop",
	} {
		_, err := runHere(labs{l.cluster}, append(strings.Fields(args), "--lab", "blue", "--timeout", "300ms")...)
		var worded *refusal
		if err == nil || !errors.As(err, &worded) || strings.Count(err.Error(), "\n") > 0 || !contains(err.Error(), "no answer in time") {
			t.Errorf("%s: %v", args, err)
		}
	}
}
