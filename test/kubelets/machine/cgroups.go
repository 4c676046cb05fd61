package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchy is a hierarchy of cgroups of version 1.
type hierarchy struct {
	// Point is where the host has it mounted, and where a machine has it too.
	Point string
	// Options are those of its mount: the controllers, or its name.
	Options string
	// Parent is the directory of this process's own cgroup, below which machines are.
	Parent string
}

// hierarchies answers those that the host has mounted.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return readHierarchies(string(mounts), string(own)), nil
}

// readHierarchies reads the two files of proc(5).
func readHierarchies(mounts, own string) []hierarchy {
	paths := map[string]string{} // of this process, by controllers
	for line := range strings.Lines(own) {
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 && fields[1] != "" {
			paths[fields[1]] = fields[2]
		}
	}
	var list []hierarchy
	for line := range strings.Lines(mounts) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 || right[0] != "cgroup" || left[3] != "/" {
			continue
		}
		// Besides the controllers there are options such as rw.
		for controllers, path := range paths {
			words := strings.Split(controllers, ",")
			if has := strings.Split(right[2], ","); !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(has, w) }) {
				list = append(list, hierarchy{Point: left[4], Options: controllers, Parent: filepath.Join(left[4], path)})
			}
		}
	}
	return list
}

// cgroups are the directories of one machine, one in each hierarchy.
type cgroups []string

// makeCgroups makes a machine's.
func makeCgroups(hierarchies []hierarchy, name string) (cgroups, error) {
	var made cgroups
	for _, h := range hierarchies {
		dir := filepath.Join(h.Parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return made, err
		}
		made = append(made, dir)
		// Nothing can run in a cpuset that nobody has filled in.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			content, err := os.ReadFile(filepath.Join(h.Parent, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), content, 0)
			}
			if err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// enter moves the calling thread into the machine's cgroups: what it starts is there.
func (c cgroups) enter() error {
	for _, dir := range c {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter a cgroup: %w", err)
		}
	}
	return nil
}

// remove removes all of the machine's cgroups, in which nothing runs any more. Those
// in which something does are an error.
func (c cgroups) remove() error {
	var wrong []error
	for _, top := range c {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			wrong = append(wrong, err)
		}
		// Those within come after those that they are in.
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil {
				wrong = append(wrong, err)
			}
		}
	}
	return errors.Join(wrong...)
}
