package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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
	l.cluster.IPAM, l.cluster.Tenancy, l.cluster.ServiceLB, l.cluster.Egress = []string{freeAddress()}, []string{freeAddress()}, []string{freeAddress()}, []string{freeAddress()}
	wantSilence := func(t *testing.T, err error, service string, address string) {
		t.Helper()
		var worded *refusal
		if err == nil || !errors.As(err, &worded) || strings.Count(err.Error(), "\n") > 0 ||
			!contains(err.Error(), "the "+service+" service does not answer at "+address) {
			t.Error(err)
		}
	}
	for args, service := range map[string]string{
		"get hostsubnets": "ipam", "flows node1": "ipam", "delete hostsubnet node1": "ipam",
		"get netnamespaces": "tenancy", "mode get": "tenancy", "pod-network isolate-projects shop": "tenancy",
		"get services": "servicelb", "service create shop/web --port 80": "servicelb", "service idle shop/web": "servicelb",
		"get egressips": "egress", "patch netnamespace shop -p {\"egressIPs\":[]}": "egress", "node drain-egress node1": "egress",
	} {
		t.Run(args, func(t *testing.T) {
			_, err := runHere(labs{l.cluster}, append(strings.Fields(args), "--lab", "blue", "--timeout", "300ms")...)
			wantSilence(t, err, service, map[string]string{"ipam": l.cluster.IPAM[0], "tenancy": l.cluster.Tenancy[0], "servicelb": l.cluster.ServiceLB[0], "egress": l.cluster.Egress[0]}[service])
		})
	}
	t.Run("after five seconds when nothing else is said", func(t *testing.T) {
		begin := time.Now()
		_, err := runHere(labs{l.cluster}, "get", "netnamespaces", "--lab", "blue")
		wantSilence(t, err, "tenancy", l.cluster.Tenancy[0])
		if took := time.Since(begin); took < answerTime || took > 2*answerTime {
			t.Errorf("it took %s", took)
		}
	})
}
