package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const oneNodeWithMaps = `
mode: subnet
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
serviceEngine: nftables
nodes: [{name: node1}]
`

// churned is what churn prints (test/churn).
type churned struct {
	FillMS  int64 `json:"fill_ms"`
	Changes int   `json:"changes"`
	TookMS  int64 `json:"took_ms"`
	Lag     [3]struct {
		P50 float64 `json:"p50_ms"`
		P99 float64 `json:"p99_ms"`
		Max float64 `json:"max_ms"`
	} `json:"lag"`
}

func TestTenThousandServicesChangeAHundredTimesASecondForAMinute(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "churn")
	build := exec.Command("go", "build", "-o", binary, "../churn")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build churn: %v\n%s", err, out)
	}
	c := up(t, oneNodeWithMaps)
	l := c.known()
	var lb string
	for _, s := range l.GetServices() {
		if s.GetName() == "servicelb" {
			lb = strings.Join(s.GetAddresses(), ",")
		}
	}
	var agent uint32
	for _, p := range c.node("node1").GetProcesses() {
		if p.GetName() == "nodeagent" {
			agent = p.GetPid()
		}
	}
	cmd := c.command(onOutside(""), binary, "-servicelb", lb, "-agent", l.GetNodes()[0].GetAgentAddress(),
		"-certificates", l.GetOperatorDirectory(), "-trust-domain", l.GetTrustDomain())
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	if !lines.Scan() || lines.Text() != "filled" {
		t.Fatalf("churn said %q: %v", lines.Text(), cmd.Wait())
	}
	memory := make(chan []int, 1)
	done := make(chan struct{})
	go func() { memory <- everySecond(done, func() int { return residentKB(agent) }) }()
	err = cmd.Wait()
	close(done)
	used := <-memory
	if err != nil {
		t.Fatalf("churn: %v", err)
	}
	var r churned
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatalf("churn printed %q: %v", out.String(), err)
	}
	t.Logf("10,000 services of 3 endpoints in force after %d ms; then %d changes in %d ms", r.FillMS, r.Changes, r.TookMS)
	for i, lag := range r.Lag {
		t.Logf("lag in third %d: median %.1f ms, 99 %%: %.1f ms, worst %.1f ms", i+1, lag.P50, lag.P99, lag.Max)
	}
	// A node that cannot keep up is behind by more and more; half a second of it is noise.
	if first, last := r.Lag[0].P50, r.Lag[2].P50; last > 3*first+500 {
		t.Errorf("the node falls behind: the median lag grew from %.1f to %.1f ms", first, last)
	}
	early, late := mean(used[len(used)/3:2*len(used)/3]), mean(used[2*len(used)/3:])
	t.Logf("the agent's memory: %d KB in the second third, %d KB in the last", early, late)
	if late > early*5/4 {
		t.Errorf("the agent's memory grew from %d to %d KB", early, late)
	}
}

// everySecond looks once a second until done is closed.
func everySecond(done <-chan struct{}, look func() int) (seen []int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		seen = append(seen, look())
		select {
		case <-done:
			return seen
		case <-tick.C:
		}
	}
}

// residentKB is the memory that a process has, in KB; 0 if it is gone.
func residentKB(pid uint32) (kb int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	_, _ = fmt.Sscanf(after, "%d", &kb)
	return kb
}

func mean(values []int) (sum int) {
	for _, v := range values {
		sum += v
	}
	return sum / max(1, len(values))
}
