// Command bench runs the benchmarks that compare us with somebody else's way of
// doing the same, and prints them as one table. Each row's two sides are measured
// in turns in the same run, so that the ratio means something on any machine;
// the times by themselves do not.
// With the argument "kubernetes" they are those that need an API server; a second argument is
// a regular expression of their benchmarks' names, for when there is no time for all.
//
// It owns no measurement: those are the benchmarks of the packages that it names.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// row is one line of the table.
type row struct {
	what string
	// baseline is what we are compared with.
	baseline string
	// dir is where the benchmark is run, name which one, times how often.
	dir, name, times string
	// ours and theirs are the units that the benchmark reports the two sides in.
	ours, theirs string
	// unit is what both are in, for people.
	unit string
	// goal is the least ratio, theirs to ours, that we want; 0: none is set.
	goal float64
}

const (
	flowsync = "services/nodeagent/flowsync"
	attach   = "services/nodeagent/attach"
	follow   = "internal/follow"
	proxies  = "services/nodeagent/proxy/proxybench"
)

func rows() []row {
	all := []row{
		{"one flow change, 10,000 present", "ovs-ofctl add-flow", flowsync, "BenchmarkOneChange", "1x", "us-ours", "us-ofctl", "µs", 1},
		{"10,000 flows", "ovs-ofctl --bundle add-flows", flowsync, "BenchmarkInstall10k", "1x", "us-ours", "us-ofctl", "µs", 1},
		{"100,000 flows", "ovs-ofctl --bundle add-flows", flowsync, "BenchmarkInstall100k", "1x", "us-ours", "us-ofctl", "µs", 1},
		{"restart without a change, 10,000 flows", "ovs-ofctl --bundle replace-flows", flowsync, "BenchmarkNoChange10k", "1x", "us-ours", "us-ofctl", "µs", 1},
		{"CNI ADD, median", "bridge with host-local", attach, "BenchmarkAddBesideReference", "100x", "damask-add-ms", "bridge-add-ms", "ms", 1},
		{"CNI DEL, median", "bridge with host-local", attach, "BenchmarkAddBesideReference", "100x", "damask-del-ms", "bridge-del-ms", "ms", 0},
		{"VNID change to the last of 100 followers", "a bare NATS publish", follow, "BenchmarkChangeToLastFollower", "300x", "µs/change", "µs/publish", "µs", 0},
	}
	all = append(all, egressIPs()...)
	all = append(all, failovers()...)
	all = append(all, firewalls()...)
	all = append(all, policies()...)
	for _, n := range []int{1000, 5000, 10000} {
		all = append(all, services(n)...)
	}
	return all
}

// services are the rows of the service engines on a node with n services.
func services(n int) []row {
	name := fmt.Sprintf("BenchmarkServices/services=%d", n)
	of := func(what, baseline, ours, theirs, unit string, goal float64) row {
		return row{fmt.Sprintf("%d services: %s", n, what), baseline, proxies, name, "1x", ours, theirs, unit, goal}
	}
	const flat = 0.9 // within a tenth
	return []row{
		of("nftables, all from nothing", "iptables-nft", "nftables-load-ms", "iptables-nft-load-ms", "ms", 1),
		of("nftables, one endpoint", "iptables-nft", "nftables-change-ms", "iptables-nft-change-ms", "ms", 1),
		of("nftables, restart without a change", "iptables-nft", "nftables-restart-ms", "iptables-nft-restart-ms", "ms", 1),
		of("nftables, connection to the last", "iptables-nft", "nftables-last-µs", "iptables-nft-last-µs", "µs", 0),
		of("nftables, memory of the agent", "iptables-nft", "nftables-heap-MB", "iptables-nft-heap-MB", "MB", 0),
		of("nftables, connection to the last", "nftables, 10 services", "nftables-last-µs", "nftables-connect-of-few-µs", "µs", flat),
		of("nftables, one endpoint", "nftables, 10 services", "nftables-change-ms", "nftables-change-of-few-ms", "ms", flat),
		of("iptables-nft, one endpoint", "iptables-nft, 10 services", "iptables-nft-change-ms", "iptables-nft-change-of-few-ms", "ms", flat),
		of("iptables-nft, all from nothing", "iptables-legacy", "iptables-nft-load-ms", "iptables-legacy-load-ms", "ms", 0),
		of("iptables-nft, one endpoint", "iptables-legacy", "iptables-nft-change-ms", "iptables-legacy-change-ms", "ms", 0),
	}
}

func main() {
	all := rows
	if len(os.Args) > 1 && os.Args[1] == "kubernetes" {
		all = kubernetes
	}
	some := ""
	if len(os.Args) > 2 {
		some = os.Args[2]
	}
	if err := run(all(), some); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures the rows whose benchmarks have a name that some matches.
func run(rows []row, some string) error {
	named, err := regexp.Compile(some)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return !named.MatchString(r.name) })
	if len(rows) == 0 {
		return fmt.Errorf("no benchmark has a name with %q", some)
	}
	measured := map[string]map[string]float64{} // by benchmark, then by unit
	for _, r := range rows {
		if measured[r.name] != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s ...\n", r.what)
		units, err := measure(r)
		if err != nil {
			return err
		}
		measured[r.name] = units
	}
	return table(rows, measured)
}

// measure runs one benchmark and answers what it reported, by unit.
func measure(r row) (map[string]float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^"+r.name+"$", "-benchtime", r.times, "-timeout", "20m", "./"+r.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s in %s: %w\n%s", r.name, r.dir, err, &out)
	}
	for scanner := bufio.NewScanner(&out); scanner.Scan(); {
		if fields := strings.Fields(scanner.Text()); len(fields) > 2 && strings.HasPrefix(fields[0], r.name) {
			return units(fields[2:])
		}
	}
	return nil, fmt.Errorf("%s in %s reported nothing; was it skipped?", r.name, r.dir)
}

// units reads "12.5 ms 3 ratio" as Go's benchmarks print it.
func units(fields []string) (map[string]float64, error) {
	all := map[string]float64{}
	for i := 0; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return nil, fmt.Errorf("unexpected figure %q: %w", fields[i], err)
		}
		all[fields[i+1]] = value
	}
	return all, nil
}

func table(rows []row, measured map[string]map[string]float64) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tDAMASK\tBASELINE\t\tRATIO\tGOAL")
	for _, r := range rows {
		ours, reported := measured[r.name][r.ours]
		theirs := measured[r.name][r.theirs]
		if !reported || theirs == 0 {
			return fmt.Errorf("%s did not report %s and %s", r.name, r.ours, r.theirs)
		}
		goal := "-"
		if ratio := theirs / ours; r.goal > 0 {
			goal = fmt.Sprintf("at least %.2g: reached", r.goal)
			if ratio < r.goal {
				goal = fmt.Sprintf("at least %.2g: MISSED", r.goal)
			}
		}
		fmt.Fprintf(w, "%s\t%.4g %s\t%.4g %s\t%s\t%.2f\t%s\n", r.what, ours, r.unit, theirs, r.unit, r.baseline, theirs/ours, goal)
	}
	fmt.Fprintln(w, "\nRatio: how many times the baseline's time ours fits into; above 1 we are faster.")
	return w.Flush()
}
