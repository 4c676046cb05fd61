package ovstest

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Appctl asks ovs-vswitchd as ovs-appctl does, without the process: tests ask thousands
// of times. It returns the answer without the last newline, and fails the test on an
// error. Options stand before a command's other arguments, as there.
func (s *Switch) Appctl(t testing.TB, command string, args ...string) string {
	t.Helper()
	answer, err := ask(s.path("ovs-vswitchd.ctl"), command, args)
	if err != nil {
		t.Fatalf("ask ovs-vswitchd: %s %s: %v", command, strings.Join(args, " "), err)
	}
	return strings.TrimSuffix(answer, "\n")
}

// Settle returns when what ovs-vswitchd has cached follows its flows. It confirms a change
// of flows before that.
func (s *Switch) Settle(t testing.TB) {
	t.Helper()
	s.Appctl(t, "revalidator/wait") // The first may end with a round that began before the change.
	s.Appctl(t, "revalidator/wait")
}

// ask is one question to a daemon: JSON-RPC 1.0 over its socket (ovs-appctl(8)).
func ask(socket, command string, args []string) (string, error) {
	limit, err := time.ParseDuration(waitSeconds + "s")
	if err != nil {
		return "", err
	}
	conn, err := net.DialTimeout("unix", socket, limit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	request := struct {
		ID     int      `json:"id"`
		Method string   `json:"method"`
		Params []string `json:"params"`
	}{0, command, append([]string{}, args...)}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return "", err
	}
	var reply struct {
		Result string  `json:"result"`
		Error  *string `json:"error"`
	}
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return "", err
	}
	if reply.Error != nil {
		return "", fmt.Errorf("it answers: %s", *reply.Error)
	}
	return reply.Result, nil
}
