package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
	patch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/runtime/schema"
	luajson "layeh.com/gopher-json"
)

// What argocd-cm says, by kind.
type argoSettings map[schema.GroupKind]argoSetting

type argoSetting struct {
	healthLua string
	actions   struct {
		DiscoveryLua string `json:"discovery.lua"`
		Definitions  []struct {
			Name      string `json:"name"`
			ActionLua string `json:"action.lua"`
		} `json:"definitions"`
	}
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// A script of Argo CD has no longer.
const luaDeadline = time.Second

// Runs a script with the object in `obj`, and returns what it returns, as JSON. There is what Argo CD has for such
// scripts: the libraries base, package and table, and of os what tells the time.
func runLua(script string, object []byte) ([]byte, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	// First the one by which the others are found.
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, openTime},
	} {
		open := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(open, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	deadline, cancel := context.WithTimeout(context.Background(), luaDeadline)
	defer cancel()
	state.SetContext(deadline)
	value, err := luajson.Decode(state, object)
	if err != nil {
		return nil, err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, fmt.Errorf("the script returns a %s, not a table", returned.Type())
	}
	return luajson.Encode(returned)
}

// The library os, without all that touches the machine.
func openTime(state *lua.LState) int {
	lua.OpenOs(state)
	whole := state.GetGlobal(lua.OsLibName).(*lua.LTable)
	var others []lua.LValue
	whole.ForEach(func(name, _ lua.LValue) {
		if !slices.Contains([]string{"time", "date"}, name.String()) {
			others = append(others, name)
		}
	})
	for _, name := range others {
		whole.RawSet(name, lua.LNil)
	}
	return 1
}

func (setting *argoSetting) health(object []byte) (health, error) {
	var result health
	answer, err := runLua(setting.healthLua, object)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		return result, err
	}
	known := []string{"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"}
	if !slices.Contains(known, result.Status) {
		return result, fmt.Errorf("%q is no health", result.Status)
	}
	return result, nil
}

// The actions that are not disabled, each as the merge patch from the object to what its script returns.
func (setting *argoSetting) offered(object []byte) (map[string]json.RawMessage, error) {
	answer, err := runLua(setting.actions.DiscoveryLua, object)
	if err != nil {
		return nil, fmt.Errorf("discovery.lua: %w", err)
	}
	var found map[string]struct {
		Disabled bool `json:"disabled"`
	}
	if err := json.Unmarshal(answer, &found); err != nil {
		return nil, fmt.Errorf("discovery.lua: %w", err)
	}
	offered := map[string]json.RawMessage{}
	for _, definition := range setting.actions.Definitions {
		action, ok := found[definition.Name]
		if !ok {
			return nil, fmt.Errorf("discovery.lua does not know the action %s", definition.Name)
		}
		delete(found, definition.Name)
		if action.Disabled {
			continue
		}
		if offered[definition.Name], err = change(definition.ActionLua, object); err != nil {
			return nil, fmt.Errorf("the action %s: %w", definition.Name, err)
		}
	}
	for name := range found {
		return nil, fmt.Errorf("no script for the action %s", name)
	}
	return offered, nil
}

func change(script string, object []byte) (json.RawMessage, error) {
	answer, err := runLua(script, object)
	if err != nil {
		return nil, err
	}
	var before, after any
	if err := errors.Join(json.Unmarshal(object, &before), json.Unmarshal(answer, &after)); err != nil {
		return nil, err
	}
	whole, err := json.Marshal(restored(after, before))
	if err != nil {
		return nil, err
	}
	return patch.CreateMergePatch(object, whole)
}

// Lua knows no empty object: what was one comes back as an empty list. Argo CD puts that right too.
func restored(after, before any) any {
	switch before := before.(type) {
	case map[string]any:
		switch after := after.(type) {
		case []any:
			if len(after) == 0 {
				return before
			}
		case map[string]any:
			for key, value := range after {
				if old, ok := before[key]; ok {
					after[key] = restored(value, old)
				}
			}
		}
	case []any:
		if after, ok := after.([]any); ok {
			for at := range min(len(after), len(before)) {
				after[at] = restored(after[at], before[at])
			}
		}
	}
	return after
}
